import BlockMaps
import Platform
import SystemPackage

extension CacheEntry {
    /// See `CachedObject.loan`. Blocks on the disk.
    func loan() throws -> BlockLoan {
        guard !engine.isClosed else { throw CacheError.closed }
        guard prepareFile() else { throw CacheError.noTier }
        let grant = state.withLock { state -> (file: BlockFile, isWhole: Bool, isWarmer: Bool)? in
            guard let file = state.file, file.tier.isReadable else { return nil }
            let isWarmer = noteUse(&state)
            if isComplete(state), pinWhole(file, &state) { return (file, true, isWarmer) }
            state.mapLoans += 1
            return (file, false, isWarmer)
        }
        guard let grant else { throw CacheError.noTier }
        if grant.isWarmer { markDirty() }
        if state.withLock({ $0.suspectCount > 0 }) { verifyInBackground() }
        return try makeLoan(grant.file, isWhole: grant.isWhole)
    }

    /// See `CachedObject.passthroughLoan`. Blocks on the disk.
    func passthroughLoan() throws -> BlockLoan? {
        guard !engine.isClosed else { throw CacheError.closed }
        load()
        let grant = state.withLock { state -> (file: BlockFile, isWarmer: Bool)? in
            guard let file = state.file, file.tier.isReadable, isComplete(state), pinWhole(file, &state) else {
                return nil
            }
            return (file, noteUse(&state))
        }
        if grant?.isWarmer == true { markDirty() }
        return try grant.map { try makeLoan($0.file, isWhole: true) }
    }

    private func pinWhole(_ file: BlockFile, _ state: inout State) -> Bool {
        if state.wholeLoans == 0 {
            guard file.tier.pin(state.occupied) else { return false }
            state.pinned = state.occupied
        }
        state.wholeLoans += 1
        state.mayBeLentWhole = true
        return true
    }

    /// Returns whether the record must follow.
    private func noteUse(_ state: inout State) -> Bool {
        state.hits += 1
        guard state.hits > 1, state.frequency < 3 else { return false }
        state.frequency += 1
        return true
    }

    private func makeLoan(_ file: BlockFile, isWhole: Bool) throws -> BlockLoan {
        do throws(Errno) {
            return BlockLoan(data: try file.readOnly(), map: isWhole ? nil : file.map.descriptor, entry: self)
        } catch {
            endLoan(isWhole: isWhole)
            throw error
        }
    }

    func endLoan(isWhole: Bool) {
        let (tier, isPromotable) = state.withLock { state -> (Tier?, Bool) in
            if isWhole {
                state.wholeLoans -= 1
                if state.wholeLoans == 0 { state.file?.tier.unpin(state.pinned) }
            } else {
                state.mapLoans -= 1
            }
            let threshold = engine.configuration.promotionHits
            let isPromotable = !state.isInUse && threshold > 0 && state.hits >= threshold && isComplete(state)
            return (state.file?.tier, isPromotable && state.file.map { $0.tier.number > 0 } == true)
        }
        if let tier, isPromotable { engine.promote(self, from: tier) }
    }

    /// Verifies the whole object on an owned thread, once at a time.
    func verifyInBackground() {
        let starts = state.withLock { state in
            defer { state.isVerifying = true }
            return !state.isVerifying
        }
        guard starts else { return }
        engine.retain(self)
        engine.scrubber.submit { [self] in
            verifySuspects(in: 0..<(geometry?.blockCount ?? 0))
            state.withLock { $0.isVerifying = false }
            engine.release(self)
        }
    }
}

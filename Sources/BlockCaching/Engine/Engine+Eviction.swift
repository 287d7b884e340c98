import BlockMaps
import Platform

extension Engine {
    /// What the eviction thread of `tier` runs when it is woken.
    func eviction(of tier: Tier) -> @Sendable () -> Void {
        { [weak self, weak tier] in
            guard let self, let tier else { return }
            evict(from: tier)
        }
    }

    /// Makes room until nobody waits for it and the level is low enough, or nothing more can go. Eviction thread.
    private func evict(from tier: Tier) {
        var refusals = 0
        while !isClosed, case .victim(let extent) = tier.nextEvictionStep(mayDeny: !isRestoring) {
            if let weight = evict(extent, from: tier) {
                tier.keep(extent, weight: weight)
                refusals += 1
                // Everything that is left has been asked once and is kept by someone.
                if refusals > tier.extentCount { return tier.abandonEviction() }
            } else {
                refusals = 0
            }
        }
    }

    /// Demotes or drops an extent. Returns its weight when it must stay.
    private func evict(_ extent: ExtentID, from tier: Tier) -> UInt64? {
        guard let entry = acquire(extent.digest) else { return nil }
        defer { release(entry) }
        if demote(entry, from: tier) { return nil }
        switch entry.evict(extent.index, from: tier) {
        case .freed(let bytes):
            tier.noteEviction(bytes: bytes)
            return nil
        case .pinned(let weight): return weight
        case .gone: return nil
        }
    }

    /// Moves an object down when the next tier has room and nobody waits for the copy.
    private func demote(_ entry: CacheEntry, from tier: Tier) -> Bool {
        guard !tier.hasWaiters, tier.number + 1 < tiers.count else { return false }
        let next = tiers[tier.number + 1]
        entry.load()
        let weight = entry.state.withLock { $0.isInUse || $0.file?.tier !== tier ? 0 : $0.occupied }
        guard weight > 0, next.reserveNow(weight),
            entry.move(to: next, reserved: weight, unless: { isClosed || tier.hasWaiters })
        else { return false }
        tier.noteMove(isPromotion: false)
        return true
    }

    /// Moves an object that is read again and again to the tier above, when that can make room for it.
    func promote(_ entry: CacheEntry, from tier: Tier) {
        let target = tiers[tier.number - 1]
        guard !isClosed, target.isWritable else { return }
        let weight = entry.state.withLock { state -> UInt64? in
            state.hits = 0  // a promotion that fails is tried again after as many hits
            guard !state.isPromoting, state.occupied <= target.configuration.quota / 4 else { return nil }
            state.isPromoting = true
            return state.occupied
        }
        guard let weight else { return }
        retain(entry)
        Task(executorPreference: pool) { [self] in
            if await target.reserve(weight, evict: eviction(of: target)) {
                let moved = await pool.run { entry.move(to: target, reserved: weight, unless: { self.isClosed }) }
                if moved { target.noteMove(isPromotion: true) }
            }
            entry.state.withLock { $0.isPromoting = false }
            release(entry)
        }
    }
}

extension Tier {
    var extentCount: Int { state.withLock { $0.policy.count } }
    var hasWaiters: Bool { state.withLock { !$0.waiting.isEmpty } }

    func noteMove(isPromotion: Bool) {
        state.withLock { if isPromotion { $0.promotions += 1 } else { $0.demotions += 1 } }
    }
}

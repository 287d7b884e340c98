import BlockMaps
import Platform
import Synchronization
import SystemPackage

extension CacheEntry {
    /// Reads the record and opens the files, once. Blocks on the disk.
    func load() {
        guard !state.withLock({ $0.isLoaded }) else { return }
        io.withLock { _ in loadHoldingIO() }
    }

    /// With `io` held.
    func loadHoldingIO() {
        guard !state.withLock({ $0.isLoaded }) else { return }
        let record = try? engine.index?.record(digest)
        state.withLock {
            $0.geometry = BlockGeometry(
                objectSize: id.size, blockSize: record?.blockSize ?? engine.configuration.blockSize)
        }
        guard let record, let tier = engine.tier(identity: record.tier) else {
            state.withLock { $0.isLoaded = true }
            return
        }
        guard tier.isReadable else { return passBy(record) }
        do throws(BlockFile.LoadError) {
            adopt(try BlockFile.load(record, digest: digest, in: tier), record)
        } catch {
            switch error {
            case .unusable(let reason):
                engine.logger.info("dropping a cache file", metadata: ["object": "\(id)", "reason": "\(reason)"])
                drop(record, from: tier)
            case .tier(let errno):
                engine.noteFailure(of: tier, errno, doing: "opening a cache file")
                passBy(record)
            }
        }
    }

    /// Leaves what a tier that is out of use holds of the object where it is.
    private func passBy(_ record: ObjectRecord) {
        state.withLock {
            $0.recorded = (record.tier, record.occupiedBytes)
            $0.isLoaded = true
        }
    }

    private func adopt(_ file: BlockFile, _ record: ObjectRecord) {
        let all = 0..<file.geometry.blockCount
        var suspects: BlockSet?
        if record.trust < engine.trust || file.tier.isDistrusted.load(ordering: .acquiring) {
            var found = BlockSet(limit: all.count)
            var cursor = 0
            while let block = file.map.firstPresent(in: cursor..<all.upperBound) {
                found.insert(block)
                cursor = block + 1
            }
            file.map.clear(all)
            suspects = found.count > 0 ? found : nil
        }
        state.withLock { state in
            state.file = file
            state.suspects = suspects
            state.presentBlocks = file.map.presentCount(in: all)
            state.recorded = (record.tier, record.occupiedBytes)
            state.frequency = record.frequency
            state.occupied = Self.occupied(all, file, suspects)
            // This coordinator's predecessor, or this one before it forgot the entry, may have lent a complete file.
            state.mayBeLentWhole = state.presentBlocks + (suspects?.count ?? 0) == file.geometry.blockCount
            file.tier.correct(from: record.occupiedBytes, to: state.occupied)
            for index in ExtentID.indices(of: 0..<id.size) {
                let weight = Self.occupied(file.geometry.blocks(ofExtent: index), file, suspects)
                file.tier.restore(
                    ExtentID(digest: digest, index: index), weight: weight, frequency: record.frequency, isExact: true)
            }
        }
        // A small object goes whole or not at all, so it is judged at once.
        if id.size <= BlockFile.smallSize { verifySuspectsHoldingIO(in: all) }
        state.withLock { $0.isLoaded = true }
    }

    /// What the present and suspect blocks among `blocks` weigh.
    static func occupied(_ blocks: Range<Int>, _ file: BlockFile, _ suspects: BlockSet?) -> UInt64 {
        guard !blocks.isEmpty else { return 0 }
        let geometry = file.geometry
        let size = UInt64(geometry.blockSize)
        var bytes = UInt64(file.map.presentCount(in: blocks) + (suspects?.count(in: blocks) ?? 0)) * size
        let last = blocks.upperBound - 1
        if last == geometry.blockCount - 1, file.map.isPresent(last) || suspects?.contains(last) == true {
            bytes -= size - Tier.weight(of: last..<last + 1, geometry)
        }
        return bytes
    }

    private func drop(_ record: ObjectRecord, from tier: Tier) {
        tier.directory.removeFiles(of: digest)
        tier.correct(from: record.occupiedBytes, to: 0)
        tier.adjustFiles(by: -1)
        state.withLock {
            $0.recorded = (record.tier, record.occupiedBytes)
            $0.isLoaded = true
        }
        markDirty()
    }

    /// Gives the object a cache file in the first tier that admits it; false when none does. Blocks on the disk.
    func prepareFile() -> Bool {
        load()
        if state.withLock({ $0.file?.tier.isReadable == true }) { return true }
        return io.withLock { _ in
            let (current, isFree) = state.withLock { ($0.file, !$0.isInUse) }
            if let current {
                if current.tier.isReadable { return true }
                guard isFree else { return false }
                abandonFile(current)
            }
            guard let geometry else { return false }
            for tier in engine.candidates(forSize: id.size) {
                do throws(Errno) {
                    let file = try BlockFile.create(in: tier, geometry, digest: digest)
                    tier.adjustFiles(by: 1)
                    state.withLock {
                        $0.file = file
                        $0.presentBlocks = 0
                        $0.occupied = 0
                    }
                    markDirty()
                    return true
                } catch {
                    engine.noteFailure(of: tier, error, doing: "creating a cache file")
                }
            }
            return false
        }
    }

    /// Lets go of a file whose tier has failed; its remains are removed when the tier is swept.
    private func abandonFile(_ file: BlockFile) {
        state.withLock { state in
            guard state.file === file else { return }
            for index in ExtentID.indices(of: 0..<id.size) {
                file.tier.remove(ExtentID(digest: digest, index: index), bytes: 0, remaining: 0)
            }
            file.tier.correct(from: state.occupied, to: 0)
            state.file = nil
            state.suspects = nil
            state.presentBlocks = 0
            state.occupied = 0
            state.unsaved = nil
        }
        file.tier.adjustFiles(by: -1)
        file.remove()
        markDirty()
    }
}

import Glibc
import Platform
import SystemPackage

extension BlockCache {
    /// Makes an empty file to write to. It goes to a disk; to a tier in memory only where no tier on a disk is
    /// configured. Throws `.noTier` when no such tier takes anything now. Blocks on the disk.
    package func makeStagingFile(_ number: UInt64) throws(CacheError) -> StagingFile {
        guard !engine.isClosed else { throw .closed }
        for tier in stagingTiers where tier.isWritable {
            let file = StagingFile(number: number, tier: tier, engine: engine, descriptor: nil)
            do throws(Errno) {
                let created = try Self.create(file.path, in: StagingFile.directory(of: tier))
                return StagingFile(number: number, tier: tier, engine: engine, descriptor: created)
            } catch {
                engine.noteFailure(of: tier, error, doing: "creating a staging file")
            }
        }
        throw .noTier
    }

    private var stagingTiers: [Tier] {
        let disks = engine.tiers.filter { $0.configuration.kind == .disk }
        return disks.isEmpty ? engine.tiers : disks
    }

    private static func create(_ path: String, in directory: String) throws(Errno) -> Descriptor {
        do throws(Errno) { return try Descriptor.open(path, O_RDWR | O_CREAT | O_EXCL) } catch {
            guard error == .noSuchFileOrDirectory else { throw error }
        }
        try TierDirectory.makeDirectories(directory)
        return try Descriptor.open(path, O_RDWR | O_CREAT | O_EXCL)
    }

    /// Every staging file that lies in a tier, by its number. Blocks on the disk.
    package func stagingFiles() -> [StagingFile] {
        engine.tiers.flatMap { tier in
            let names = (try? TierDirectory.names(in: StagingFile.directory(of: tier))) ?? []
            return names.compactMap { UInt64($0) }.sorted().map {
                StagingFile(number: $0, tier: tier, engine: engine, descriptor: nil)
            }
        }
    }

    /// Whether a tier of this identity is in use.
    package func hasTier(_ identity: UInt64) -> Bool { engine.tier(identity: identity) != nil }
}

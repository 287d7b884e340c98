import BlockMaps
import Glibc
import Platform
import SystemPackage

/// A cache file that is open: the data of one object version in one tier, and its block map.
///
/// The map lives in memory and is saved beside the data. A complete object of 1 MiB at most has no map file: its
/// checksums are in its record. Where there is a map file, it is the truth: its bits never claim a block whose bytes
/// were punched.
final class BlockFile: Sendable {
    /// Objects up to this size keep their checksums in the index.
    static let smallSize: UInt64 = 1 << 20

    let tier: Tier
    let data: Descriptor
    let map: BlockMap
    /// Which run of the coordinator made it; see `Tier.run`.
    let run: UInt64
    private let mapFile: Lock<Descriptor?>
    private let reader = Lock<Descriptor?>(nil)

    init(tier: Tier, data: Descriptor, map: BlockMap, run: UInt64, mapFile: Descriptor?) {
        self.tier = tier
        self.data = data
        self.map = map
        self.run = run
        self.mapFile = Lock(mapFile)
    }

    var geometry: BlockGeometry { map.geometry }
    var dataPath: String { tier.directory.dataPath(map.digest) }
    var mapPath: String { tier.directory.mapPath(map.digest) }

    /// Makes an empty cache file, in place of any that is there.
    static func create(in tier: Tier, _ geometry: BlockGeometry, digest: ObjectDigest) throws(Errno) -> BlockFile {
        let floor = tier.configuration.floorFreeInodes
        if floor > 0, try tier.directory.space().inodes < floor + 2 { throw .noSpace }
        let map = try BlockMap(geometry, digest: digest)
        // The map goes first: data without a map is an orphan that a restart removes.
        let mapFile = try createFile(tier.directory.mapPath(digest), in: tier.directory.directory(of: digest))
        do throws(Errno) {
            try map.save(to: mapFile)
            let data = try createFile(tier.directory.dataPath(digest), in: tier.directory.directory(of: digest))
            try data.resize(to: geometry.objectSize)
            return BlockFile(tier: tier, data: data, map: map, run: tier.run, mapFile: mapFile)
        } catch {
            unlink(tier.directory.mapPath(digest))
            unlink(tier.directory.dataPath(digest))
            throw error
        }
    }

    private static func createFile(_ path: String, in directory: String) throws(Errno) -> Descriptor {
        // A new inode each time: an old one may still be lent.
        unlink(path)
        do throws(Errno) { return try Descriptor.open(path, O_RDWR | O_CREAT | O_EXCL) } catch {
            guard error == .noSuchFileOrDirectory else { throw error }
        }
        try TierDirectory.makeDirectories(directory)
        return try Descriptor.open(path, O_RDWR | O_CREAT | O_EXCL)
    }

    enum LoadError: Error {
        /// Nothing there, or damaged: fetch again.
        case unusable(String)
        /// The disk failed.
        case tier(Errno)
    }

    /// Opens what a record speaks of; every byte on the disk may be damaged.
    static func load(_ record: ObjectRecord, digest: ObjectDigest, in tier: Tier) throws(LoadError) -> BlockFile {
        guard let geometry = BlockGeometry(objectSize: record.id.size, blockSize: record.blockSize) else {
            throw .unusable("geometry")
        }
        do {
            let data = try Descriptor.open(tier.directory.dataPath(digest), O_RDWR)
            let size = try data.status().size
            guard size == geometry.objectSize else {
                throw LoadError.unusable("\(size) bytes instead of \(geometry.objectSize)")
            }
            do {
                let mapFile = try Descriptor.open(tier.directory.mapPath(digest), O_RDWR)
                let map = try BlockMap(loading: mapFile, geometry: geometry, digest: digest)
                return BlockFile(tier: tier, data: data, map: map, run: record.run, mapFile: mapFile)
            } catch Errno.noSuchFileOrDirectory {
                guard record.isComplete, record.checksums.count == geometry.blockCount else {
                    throw LoadError.unusable("its block map is missing")
                }
                let map = try BlockMap(geometry, digest: digest)
                for (block, checksum) in record.checksums.enumerated() { map.markPresent(block, checksum: checksum) }
                return BlockFile(tier: tier, data: data, map: map, run: record.run, mapFile: nil)
            }
        } catch let error as LoadError {
            throw error
        } catch BlockMapError.system(let error) {
            throw .tier(error)
        } catch let error as BlockMapError {
            throw .unusable("\(error)")
        } catch let error as Errno {
            if error == .noSuchFileOrDirectory { throw .unusable("the cache file is missing") }
            throw .tier(error)
        } catch {
            throw .unusable("\(error)")
        }
    }

    /// A descriptor to lend: of the same file, for reading only.
    func readOnly() throws(Errno) -> Descriptor {
        if let known = reader.withLock({ $0 }) { return known }
        let opened = try Descriptor.open("/proc/self/fd/\(data.raw)", O_RDONLY)
        reader.withLock { $0 = opened }
        return opened
    }

    /// Saves what concerns `blocks`, in a new map file where there was none.
    func saveMap(_ blocks: Range<Int>) throws(Errno) {
        if let file = mapFile.withLock({ $0 }) { return try map.save(blocks, to: file) }
        let file = try Self.createFile(mapPath, in: tier.directory.directory(of: map.digest))
        try map.save(to: file)
        mapFile.withLock { $0 = file }
    }

    /// The checksums are in the index now.
    func removeMapFile() {
        guard
            mapFile.withLock({ file in
                defer { file = nil }; return file != nil
            })
        else { return }
        unlink(mapPath)
    }

    /// Removes the file from its tier; who has it open keeps it.
    func remove() {
        unlink(dataPath)
        unlink(mapPath)
        mapFile.withLock { $0 = nil }
    }

    enum Verdict {
        case sound, damaged
    }

    /// Reads a block into `buffer` and compares its checksum.
    func check(_ block: Int, buffer: UnsafeMutableRawBufferPointer) throws(Errno) -> Verdict {
        let length = geometry.length(of: block)
        let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<length])
        let offset = geometry.bytes(of: block..<block + 1).lowerBound
        guard try data.read(into: part, at: offset) == length else { return .damaged }
        return CRC32C.of(UnsafeRawBufferPointer(part)) == map.checksum(of: block) ? .sound : .damaged
    }
}

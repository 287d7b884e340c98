import BlockMaps
import Glibc
import Platform
import SystemPackage

/// The directory of a tier on its file system: marker, lock and the places of cache files.
///
///     larder-cache        the marker: format version and the tier's number
///     lock                held with flock(2) by the coordinator that uses it, whose pid it holds
///     objects/xx/<digest>.data, .map
///     index/              the index, in one of the tiers
struct TierDirectory: Sendable {
    private static let formatVersion = 1

    let path: String
    /// Names this directory's contents for ever: a wiped RAM tier has a new one.
    let identity: UInt64
    let isNew: Bool
    private let lock: Descriptor
    /// For statvfs and syncfs.
    let root: Descriptor

    /// Creates or opens the directory and locks it for this process.
    static func open(_ path: String) throws(CacheError) -> TierDirectory {
        do {
            try makeDirectories(path)
            let root = try Descriptor.open(path, O_RDONLY | O_DIRECTORY)
            let marker = Machine.contents(of: path + "/larder-cache")
            if marker == nil, try !isEmpty(path) { throw CacheError.foreign(path: path) }
            let lock = try takeLock(path)
            if let marker {
                return TierDirectory(
                    path: path, identity: try identity(in: marker, path: path), isNew: false, lock: lock, root: root)
            }
            let identity = UInt64.random(in: 1...UInt64.max)
            try checkHolePunching(path)
            try makeDirectories(path + "/objects")
            try writeDurably(
                "larder-cache \(formatVersion)\nid \(String(identity, radix: 16))\n", "larder-cache", in: path)
            return TierDirectory(path: path, identity: identity, isNew: true, lock: lock, root: root)
        } catch let error as CacheError {
            throw error
        } catch {
            throw .unusable(path: path, reason: "\(error)")
        }
    }

    private static func identity(in marker: String, path: String) throws(CacheError) -> UInt64 {
        let words = marker.split { $0 == " " || $0 == "\n" }
        guard words.count >= 2, words[0] == "larder-cache", let version = Int(words[1]) else {
            throw .foreign(path: path)
        }
        guard version <= formatVersion else { throw .newerFormat(path: path, version: "\(version)") }
        guard words.count == 4, words[2] == "id", let identity = UInt64(words[3], radix: 16), identity > 0 else {
            throw .unusable(path: path, reason: "its marker larder-cache is damaged; remove the directory")
        }
        return identity
    }

    private static func takeLock(_ path: String) throws -> Descriptor {
        let file = try Descriptor.open(path + "/lock", O_RDWR | O_CREAT)
        do throws(Errno) { try file.lockExclusively() } catch {
            guard error == .wouldBlock else { throw error }
            throw CacheError.inUse(path: path, pid: Machine.firstLine(of: path + "/lock").flatMap { Int32($0) })
        }
        try file.resize(to: 0)
        try write("\(getpid())\n", to: file)
        return file
    }

    /// Creates each missing directory of an absolute or relative path, for the owner only.
    static func makeDirectories(_ path: String) throws(Errno) {
        if mkdir(path, 0o700) == 0 { return }
        let error = errno
        switch error {
        case EEXIST: return
        case ENOENT:
            guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { throw Errno(rawValue: error) }
            try makeDirectories(String(path[..<slash]))
            guard mkdir(path, 0o700) == 0 || errno == EEXIST else { throw Errno(rawValue: errno) }
        default: throw Errno(rawValue: error)
        }
    }

    /// Whether a directory has no entry but lost+found and a lock file left by a start that failed.
    private static func isEmpty(_ path: String) throws -> Bool {
        try names(in: path).allSatisfy {
            ["lost+found", "lock", "objects", ".probe", ".larder-cache.new"].contains($0)
        }
    }

    /// Entries of a directory without "." and "..".
    static func names(in path: String) throws(Errno) -> [String] {
        guard let stream = opendir(path) else { throw Errno(rawValue: errno) }
        defer { closedir(stream) }
        var found: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { found.append(name) }
        }
        return found
    }

    /// Eviction gives space back by punching holes, which not every file system can (NFS before 4.2, some FUSE).
    private static func checkHolePunching(_ path: String) throws {
        let probe = path + "/.probe"
        let file = try Descriptor.open(probe, O_RDWR | O_CREAT | O_TRUNC)
        defer { unlink(probe) }
        try write(String(repeating: "x", count: 8192), to: file)
        do throws(Errno) { try file.punchHole(at: 0, length: 4096) } catch {
            throw CacheError.unusable(
                path: path, reason: "its file system cannot punch holes (\(error)); choose a local disk or tmpfs")
        }
    }

    private static func write(_ text: String, to file: Descriptor) throws(Errno) {
        try Array(text.utf8).withUnsafeBufferPointer { bytes throws(Errno) in
            try file.write(UnsafeRawBufferPointer(bytes), at: 0)
        }
    }

    static func writeDurably(_ text: String, _ name: String, in directory: String) throws(Errno) {
        let temporary = "\(directory)/.\(name).new"
        let file = try Descriptor.open(temporary, O_WRONLY | O_CREAT | O_TRUNC)
        try write(text, to: file)
        try file.synchronizeData()
        guard rename(temporary, "\(directory)/\(name)") == 0 else { throw Errno(rawValue: errno) }
        let parent = try Descriptor.open(directory, O_RDONLY | O_DIRECTORY)
        guard fsync(parent.raw) == 0 else { throw Errno(rawValue: errno) }
    }

    /// Free space and inodes for this user.
    func space() throws(Errno) -> (bytes: UInt64, inodes: UInt64) {
        var info = statvfs()
        guard fstatvfs(root.raw, &info) == 0 else { throw Errno(rawValue: errno) }
        // File systems that make inodes as they go (btrfs) report none at all.
        let inodes = info.f_files == 0 ? UInt64.max : UInt64(info.f_favail)
        return (UInt64(info.f_bavail) * UInt64(info.f_frsize), inodes)
    }

    func synchronize() throws(Errno) { try root.synchronizeFileSystem() }

    func directory(of digest: ObjectDigest) -> String { "\(path)/objects/\(digest.description.prefix(2))" }
    func dataPath(_ digest: ObjectDigest) -> String { "\(directory(of: digest))/\(digest).data" }
    func mapPath(_ digest: ObjectDigest) -> String { "\(directory(of: digest))/\(digest).map" }

    func removeFiles(of digest: ObjectDigest) {
        unlink(dataPath(digest))
        unlink(mapPath(digest))
    }

    /// Lets another coordinator have the directory, though descriptors of this one may live on.
    func unlock() { flock(lock.raw, LOCK_UN) }
}

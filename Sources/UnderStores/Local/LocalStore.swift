import Glibc
import Platform
import SystemPackage

/// A directory of this node as an under-store: its files, with their native metadata, and nothing outside of it.
///
/// Every path is opened with openat2(2) RESOLVE_BENEATH and without following links (the kernel resolves those above
/// Larder), so that neither `..` nor a symbolic link planted in the directory leads out of it.
///
/// A version is device, inode, modification and change time, and size. Two writes within one tick of the kernel's clock
/// (some milliseconds) that leave the size alone can share a version, as for every tool that compares times.
package final class LocalStore: UnderStore {
    package let identity: StoreIdentity
    let root: Descriptor
    let rootPath: String
    let pool: WorkerPool
    /// Whether calls can be made with the identity of another user.
    let canActForOthers: Bool

    /// The threads that serve stores which are not given their own. Eight keep a disk busy; a hanging network file
    /// system holds up only local stores.
    package static let sharedPool = WorkerPool(name: "local-store", threads: 8)

    /// Opens the directory `root`. Makes blocking calls; not for Swift's cooperative pool when `root` may hang.
    ///
    /// - Parameter pool: runs every blocking call of the store.
    /// - Throws: `.notFound`, `.notDirectory`, `.accessDenied`, `.inputOutput`, `.invalid` (an empty path).
    package init(root: String, pool: WorkerPool = LocalStore.sharedPool) throws(StoreError) {
        do throws(Errno) {
            self.root = try Descriptor.open(root, O_RDONLY | O_DIRECTORY)
        } catch {
            throw Self.cannotOpen(root, error)
        }
        guard let real = realpath(root, nil) else { throw Self.cannotOpen(root, Errno(rawValue: errno)) }
        defer { free(real) }
        rootPath = String(cString: real)
        identity = StoreIdentity("file://\(rootPath)")
        self.pool = pool
        canActForOthers = ThreadIdentity.isChangeable
    }

    /// A directory of this store as a store of its own. Blocks. Throws as `init`.
    func subdirectory(_ path: ByteString) throws(StoreError) -> LocalStore {
        try LocalStore(root: "\(rootPath)/\(path)", pool: pool)
    }

    private static func cannotOpen(_ root: String, _ error: Errno) -> StoreError {
        switch error {
        case .noSuchFileOrDirectory where root.isEmpty: StoreError(.invalid, "the directory's path is empty")
        case .noSuchFileOrDirectory: StoreError(.notFound, "\(root) does not exist; create it or correct the path")
        case .notDirectory: StoreError(.notDirectory, "\(root) is not a directory")
        case .permissionDenied, .notPermitted:
            StoreError(.accessDenied, "no permission to read the directory \(root); Larder runs as uid \(geteuid())")
        default: StoreError(.inputOutput, "cannot open the directory \(root): \(error)")
        }
    }

    package func lookup(_ path: ByteString) async throws(StoreError) -> ObjectAttributes? {
        guard isCanonical(path) else { return nil }
        return try await run { [self] _ throws(StoreError) in
            do throws(Errno) {
                return ObjectAttributes(try open(path, Descriptor.pathOnly | O_NOFOLLOW).status())
            } catch {
                if error.meansAbsent { return nil }
                throw failure("look up", path, error)
            }
        }
    }

    package func list(_ path: ByteString) -> any DirectoryListing { LocalListing(of: path, in: self) }

    package func readLink(_ path: ByteString) async throws(StoreError) -> ByteString {
        let target: ByteString? = try await run { [self] _ throws(StoreError) in
            do throws(Errno) {
                let file = try open(path, Descriptor.pathOnly | O_NOFOLLOW)
                return try file.status().isSymbolicLink ? try file.linkTarget() : nil
            } catch {
                throw failure("read the link", path, error)
            }
        }
        guard let target else { throw StoreError(.invalid, "\(shown(path)) is not a symbolic link") }
        return target
    }

    package func openSource(
        _ path: ByteString, expecting version: ObjectVersion?
    ) async throws(StoreError) -> Descriptor? {
        try await run { [self] _ throws(StoreError) in try openFile(path, expecting: version).file }
    }

    package func space() async throws(StoreError) -> StoreSpace? {
        try await run { [self] _ throws(StoreError) in
            var raw = statvfs()
            guard fstatvfs(root.raw, &raw) == 0 else { throw failure("get the space of", "", Errno(rawValue: errno)) }
            let unit = UInt64(raw.f_frsize)
            return StoreSpace(
                totalBytes: UInt64(raw.f_blocks) * unit, freeBytes: UInt64(raw.f_bfree) * unit,
                availableBytes: UInt64(raw.f_bavail) * unit, files: UInt64(raw.f_files),
                freeFiles: UInt64(raw.f_ffree))
        }
    }
}

extension LocalStore {
    /// Runs blocking work on the store's threads; `body` looks at the flag between its steps.
    func run<Result: Sendable>(
        _ body: @escaping @Sendable (CancellationFlag) throws(StoreError) -> Result
    ) async throws(StoreError) -> Result {
        if Task.isCancelled { throw .cancelled }
        let flag = CancellationFlag()
        return try await flag.watchingTask { [pool] () async throws(StoreError) in
            try await pool.run { () throws(StoreError) in
                if flag.isSet { throw .cancelled }
                return try body(flag)
            }
        }
    }

    func open(_ path: ByteString, _ flags: CInt) throws(Errno) -> Descriptor {
        guard isCanonical(path) else { throw .noSuchFileOrDirectory }
        return try openBeneath(path, flags)
    }

    /// What the kernel would read as another name (an empty part, `.`, `..`, a NUL) names nothing in a store.
    func isCanonical(_ path: ByteString) -> Bool {
        path.isEmpty
            || path.bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
                .allSatisfy { ByteString($0).isNameable }
    }

    /// The path as people know it, for messages.
    func shown(_ path: ByteString) -> String { path.isEmpty ? rootPath : "\(rootPath)/\(path)" }

    /// The error of a system call as the store's error.
    func failure(_ action: String, _ path: ByteString, _ error: Errno) -> StoreError {
        let what = "cannot \(action) \(shown(path))"
        return switch error {
        case .noSuchFileOrDirectory: StoreError(.notFound, "\(shown(path)) does not exist")
        case .notDirectory: StoreError(.notDirectory, "\(shown(path)) is not a directory")
        case .permissionDenied, .notPermitted: StoreError(.accessDenied, "\(what): no permission")
        case .tooManySymbolicLinkLevels, .improperLink:
            StoreError(.invalid, "\(what): a symbolic link or mount on the way leads out of the directory")
        case .fileNameTooLong: StoreError(.invalid, "\(what): the path is too long")
        case .tooManyOpenFiles, .tooManyOpenFilesInSystem:
            StoreError(.unavailable, "\(what): no free file descriptor; raise the limit (ulimit -n)")
        default: StoreError(.inputOutput, "\(what): \(error)")
        }
    }
}

extension StoreError {
    static let cancelled = StoreError(.cancelled, "the operation was cancelled")
}

extension Errno {
    /// Whether a lookup with this error simply found nothing.
    var meansAbsent: Bool { [.noSuchFileOrDirectory, .notDirectory].contains(self) }
}

import Glibc
import Platform
import SystemPackage

/// A listing of a local directory: getdents64(2) in the directory's own order, with a statx(2) of each entry.
///
/// An entry that vanishes between the two is left out. When the directory changes meanwhile, entries that were there
/// all the time are shown once; those that came or went may or may not be shown (readdir(3)).
final class LocalListing: DirectoryListing {
    private static let pageSize = 1000

    private enum Progress {
        case notStarted
        case reading(DirectoryReader)
        case ended
    }

    private let path: ByteString
    private let store: LocalStore
    private let progress = Lock<Progress>(.notStarted)

    init(of path: ByteString, in store: LocalStore) {
        self.path = path
        self.store = store
    }

    func nextPage() async throws(StoreError) -> ListingPage? {
        try await store.run { [self] cancellation throws(StoreError) in
            // Only system calls run under the lock, and only one task asks at a time.
            try progress.withLock { progress throws(StoreError) in
                let reader: DirectoryReader
                switch progress {
                case .ended: return nil
                case .reading(let open): reader = open
                case .notStarted:
                    reader = DirectoryReader(try openDirectory())
                    progress = .reading(reader)
                }
                var page = ListingPage(entries: [])
                page.entries.reserveCapacity(Self.pageSize)
                while page.entries.count < Self.pageSize {
                    if cancellation.isSet { throw .cancelled }
                    guard let name = try nextName(of: reader) else {
                        progress = .ended
                        break
                    }
                    if let entry = try entry(name, in: reader.directory) { page.entries.append(entry) }
                }
                return page
            }
        }
    }

    private func openDirectory() throws(StoreError) -> Descriptor {
        do throws(Errno) {
            return try store.open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        } catch .tooManySymbolicLinkLevels where endsInLink() {
            throw store.failure("list", path, .notDirectory)
        } catch {
            throw store.failure("list", path, error)
        }
    }

    private func endsInLink() -> Bool {
        (try? store.open(path, Descriptor.pathOnly | O_NOFOLLOW).status().isSymbolicLink) == true
    }

    private func nextName(of reader: DirectoryReader) throws(StoreError) -> ByteString? {
        do throws(Errno) { return try reader.next() } catch { throw store.failure("list", path, error) }
    }

    private func entry(_ name: ByteString, in directory: Descriptor) throws(StoreError) -> DirectoryEntry? {
        do throws(Errno) {
            let status = try name.withCString { name throws(Errno) in
                try FileStatus(of: name, in: directory.raw, flags: AT_SYMLINK_NOFOLLOW)
            }
            return DirectoryEntry(name: name, attributes: ObjectAttributes(status))
        } catch .noSuchFileOrDirectory {
            return nil
        } catch {
            throw store.failure("look up", path.appending(component: name), error)
        }
    }
}

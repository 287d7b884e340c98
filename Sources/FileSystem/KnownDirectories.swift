import Coordination
import Platform
import Synchronization

/// Directories that this mount has made and that hold nothing but what was made through it since: who looks up another name
/// in one, and the kernel does that before each creation, is answered without asking the coordinator.
///
/// The coordinator tells of every change that it did not hear of through this mount before that change counts: then the
/// directory is forgotten here, and so it is when its own knowledge would end. Any thread.
final class KnownDirectories: Sendable {
    fileprivate struct Directory {
        /// Names that may be there: all that this mount has asked for.
        var names: Set<ByteString> = []
        /// nil while a change of them has been asked for and not been answered.
        var attributes: WireAttributes?
        /// CLOCK_MONOTONIC nanoseconds.
        let end: UInt64
    }

    fileprivate struct State {
        var directories: [UInt64: Directory] = [:]
        /// Names in all directories.
        var count = 0
        /// Grows with each message of what is to be forgotten.
        var epoch: UInt64 = 0
    }

    private let state = Lock(State())
    /// Whether there is any, so that other mounts' lookups take no lock.
    private let hasAny = Atomic<Bool>(false)

    // Some tens of MB; beyond, all are forgotten, and the coordinator is asked as it would be without them.
    private static let mostNames = 200_000
    private static let mostDirectories = 4096

    /// To be noted before a directory is asked for, and given to `begin`.
    var epoch: UInt64 { state.withLock { $0.epoch } }

    /// A directory was made: it is empty until `end`, but for what comes through this mount. Nothing happens when something
    /// was to be forgotten since `epoch`: it may have been of this directory.
    func begin(_ attributes: WireAttributes, until end: UInt64, since epoch: UInt64) {
        state.withLock { state in
            guard state.epoch == epoch else { return }
            if state.directories.count >= Self.mostDirectories { state.removeAll() }
            state.directories[attributes.inode] = Directory(attributes: attributes, end: end)
            hasAny.store(true, ordering: .releasing)
        }
    }

    /// A name in a directory is asked for: from now on it may be there.
    /// - Returns: whether the directory is known, so that its attributes are worth telling.
    @discardableResult
    func note(_ name: ByteString, in directory: UInt64) -> Bool {
        change(directory) { state, known in
            if known.names.insert(name).inserted { state.count += 1 }
        }
    }

    /// A change in a directory is asked for.
    func noteChange(in directory: UInt64) { change(directory) { _, _ in } }

    @discardableResult
    private func change(_ directory: UInt64, _ body: (inout State, inout Directory) -> Void) -> Bool {
        guard hasAny.load(ordering: .acquiring) else { return false }
        return state.withLock { state in
            guard var known = state.directories.removeValue(forKey: directory) else { return false }
            known.attributes = nil
            body(&state, &known)
            state.directories[directory] = known
            if state.count > Self.mostNames { state.removeAll() }
            return true
        }
    }

    /// What a directory is after the last change in it.
    func update(_ attributes: WireAttributes) {
        state.withLock { $0.directories[attributes.inode]?.attributes = attributes }
    }

    /// Whether there is no such name for certain.
    func isAbsent(_ name: ByteString, in directory: UInt64) -> Bool {
        guard hasAny.load(ordering: .acquiring) else { return false }
        return state.withLock { state in
            guard let known = state.directories[directory] else { return false }
            guard known.end > MonotonicClock.now() else {
                state.remove(directory)
                return false
            }
            return !known.names.contains(name)
        }
    }

    /// The attributes of a directory, which the kernel asks for after each creation in it; nil when only the coordinator
    /// knows them.
    func attributes(of directory: UInt64) -> WireAttributes? {
        guard hasAny.load(ordering: .acquiring) else { return nil }
        return state.withLock { state in
            let now = MonotonicClock.now()
            guard let known = state.directories[directory], known.end > now, var attributes = known.attributes else {
                return nil
            }
            attributes.ttlMilliseconds = min(
                attributes.ttlMilliseconds, UInt32(clamping: (known.end - now) / 1_000_000))
            return attributes
        }
    }

    /// The coordinator has said that something about these directories, or about names in the second ones, is no longer
    /// right.
    func forget(_ directories: [UInt64], namesIn parents: [UInt64]) {
        state.withLock { state in
            state.epoch += 1
            for directory in directories + parents { state.remove(directory) }
            if !parents.isEmpty { state.removeAttributes() }
        }
    }

    /// A name that may be one of these directories is about to go: what they are then only the coordinator knows.
    func forgetAttributes() {
        guard hasAny.load(ordering: .acquiring) else { return }
        state.withLock { $0.removeAttributes() }
    }

    /// Nothing is known any more: the coordinator has been replaced.
    func forgetAll() {
        state.withLock { state in
            state.epoch += 1
            state.removeAll()
        }
    }
}

extension KnownDirectories.State {
    fileprivate mutating func remove(_ directory: UInt64) {
        if let known = directories.removeValue(forKey: directory) { count -= known.names.count }
    }

    /// A name that has gone may have been that of any of them.
    fileprivate mutating func removeAttributes() {
        for directory in directories.keys { directories[directory]?.attributes = nil }
    }

    fileprivate mutating func removeAll() { (directories, count) = ([:], 0) }
}

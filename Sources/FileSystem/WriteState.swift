import Coordination
import Platform
import Synchronization
import SystemPackage

/// What a mount knows of a file that it writes, beside the descriptor. Any thread.
final class WriteState: Sendable {
    /// Set once, and kept then: by the open, or later when a predecessor of this process had the file open.
    private let descriptor: Atomic<UInt>
    let room: StagingRoom
    /// The descriptor is of the file itself, whose status says everything.
    private let isInPlace: Bool
    private let isUncommitted = Atomic<Bool>(false)
    private let failure = Atomic<Int32>(0)
    /// The next close needs no answer of the coordinator's.
    private let closesUnasked: Atomic<Bool>
    /// Written since `known` was true.
    private let isModified = Atomic<Bool>(false)
    /// The mode has set-user-id or set-group-id bits.
    private let isPrivileged: Atomic<Bool>
    private let known: Lock<Known>

    /// The coordinator's attributes, and how to tell what of them still holds.
    private struct Known {
        var attributes: WireAttributes
        /// The descriptor's mtime when the attributes came: while it is still that, theirs holds, which may be of the
        /// object, or set by utimensat(2), and not of the file that stands for it here.
        var fileModified: FileTime?
        /// Something that only the coordinator knows (mode, owner) may have changed.
        var isStale = false
        /// `MountedFileSystem.namesEpoch` when the attributes were asked for; the number of links may be another later.
        var namesEpoch: UInt64 = 0
    }

    init(_ path: DataPath, namesEpoch: UInt64 = 0) {
        descriptor = Atomic(path.file.map { UInt(bitPattern: Unmanaged.passRetained($0).toOpaque()) } ?? 0)
        isInPlace = path.kind != .staged
        closesUnasked = Atomic(path.staged.closesUnasked)
        let status = Self.status(path.file)
        // The kernel writes by itself in passthrough, and in place a local store has its own limits.
        room = StagingRoom(
            size: max(path.size, status?.size ?? 0), room: path.kind == .staged ? path.staged.room : nil)
        isPrivileged = Atomic(path.attributes.mode & Self.privilegeBits != 0)
        known = Lock(Known(attributes: path.attributes, fileModified: status?.modified, namesEpoch: namesEpoch))
        if path.isRestored {
            // The predecessor knew more, and took it with it.
            noteWrite()
            noteStale()
        }
    }

    deinit {
        UnsafeRawPointer(bitPattern: descriptor.load(ordering: .acquiring)).map {
            Unmanaged<Descriptor>.fromOpaque($0).release()
        }
    }

    /// nil when the kernel writes by itself and the coordinator lent no descriptor beside the backing id, or while the file of
    /// a predecessor is not opened again.
    @inline(__always)
    var file: Descriptor? {
        UnsafeRawPointer(bitPattern: descriptor.load(ordering: .acquiring)).map {
            Unmanaged<Descriptor>.fromOpaque($0).takeUnretainedValue()
        }
    }

    /// The file that a predecessor had open is open again.
    func resume(_ path: DataPath) {
        guard let file = path.file else { return }
        let retained = Unmanaged.passRetained(file)
        let pointer = UInt(bitPattern: retained.toOpaque())
        guard descriptor.compareExchange(expected: 0, desired: pointer, ordering: .acquiringAndReleasing).exchanged
        else { return retained.release() }
        isPrivileged.store(path.attributes.mode & Self.privilegeBits != 0, ordering: .relaxed)
        known.withLock { $0.attributes = path.attributes }
        if path.kind == .staged {
            room.resume(size: max(path.size, Self.status(file)?.size ?? 0), room: path.staged.room)
        }
    }

    private static func status(_ file: Descriptor?) -> FileStatus? {
        guard let file else { return nil }
        do throws(Errno) { return try file.status() } catch { return nil }
    }

    // MARK: Changes

    /// Something has been written.
    @inline(__always)
    func noteWrite() {
        if !isUncommitted.load(ordering: .relaxed) { isUncommitted.store(true, ordering: .releasing) }
        if !isModified.load(ordering: .relaxed) { isModified.store(true, ordering: .releasing) }
    }

    /// Whether something was written that no Commit has told of.
    var isUncommittedNow: Bool { isUncommitted.load(ordering: .acquiring) }

    /// The same, and it is told of now.
    func takeUncommitted() -> Bool { isUncommitted.exchange(false, ordering: .acquiringAndReleasing) }

    /// Whether a close is done without a Commit: once, and not after one.
    func takeUnaskedClose() -> Bool {
        closesUnasked.load(ordering: .relaxed) && closesUnasked.exchange(false, ordering: .relaxed)
    }

    /// What was taken could not be committed.
    func putBackUncommitted() { isUncommitted.store(true, ordering: .releasing) }

    /// Why this file can be neither written nor committed any more; nil while it can.
    @inline(__always)
    var error: Errno? {
        let number = failure.load(ordering: .relaxed)
        return number == 0 ? nil : Errno(rawValue: number)
    }

    /// Returns whether it is the first failure.
    func fail(_ error: Errno) -> Bool {
        failure.compareExchange(expected: 0, desired: error.rawValue, ordering: .relaxed).exchanged
    }

    // MARK: Attributes

    private static let privilegeBits: UInt32 = 0o6000

    /// The mode that the file has after a write by somebody without privileges, when that is another: the kernel leaves
    /// this to the file system (FUSE_HANDLE_KILLPRIV_V2), as otherwise it would ask for security.capability at each write.
    @inline(__always)
    var modeAfterWrite: UInt32? { isPrivileged.load(ordering: .relaxed) ? reducedMode() : nil }

    private func reducedMode() -> UInt32? { known.withLock { $0.attributes }.modeWithoutPrivileges }

    /// The coordinator has said what holds now; it was asked at `namesEpoch`.
    func note(_ attributes: WireAttributes, namesEpoch: UInt64) {
        isModified.store(false, ordering: .releasing)
        isPrivileged.store(attributes.mode & Self.privilegeBits != 0, ordering: .relaxed)
        let status = Self.status(file)
        known.withLock {
            $0 = Known(attributes: attributes, fileModified: status?.modified, namesEpoch: namesEpoch)
        }
    }

    /// No name leads to the file any more.
    func noteUnlinked() { known.withLock { $0.attributes.links = 0 } }

    func noteStale() { known.withLock { $0.isStale = true } }

    /// The attributes as they are now, without asking; nil when only the coordinator knows.
    func current(namesEpoch: UInt64) -> WireAttributes? {
        guard let status = Self.status(file) else { return nil }
        let known = known.withLock { $0 }
        let isOld = !isInPlace && (known.isStale || known.namesEpoch != namesEpoch)
        return isOld ? nil : merge(known, status)
    }

    /// The same, when the coordinator has just said `attributes` of the inode.
    func current(_ attributes: WireAttributes, namesEpoch: UInt64) -> WireAttributes {
        guard let status = Self.status(file) else { return attributes }
        var known = known.withLock { $0 }
        if known.isStale || known.namesEpoch != namesEpoch { known.attributes = attributes }
        return merge(known, status)
    }

    /// The same, with what may be out of date.
    func lastKnown() -> WireAttributes {
        let known = known.withLock { $0 }
        guard let status = Self.status(file) else { return known.attributes }
        return merge(known, status)
    }

    private func merge(_ known: Known, _ status: FileStatus) -> WireAttributes {
        var attributes = known.attributes
        attributes.size = status.size
        attributes.blocks = status.blocks
        if isInPlace {
            attributes.show(status)
        } else if isModified.load(ordering: .acquiring) || status.modified != known.fileModified {
            attributes.modifiedSeconds = status.modified.seconds
            attributes.modifiedNanoseconds = status.modified.nanoseconds
            let changed = FileTime(seconds: attributes.changedSeconds, nanoseconds: attributes.changedNanoseconds)
            if changed < status.changed {
                attributes.changedSeconds = status.changed.seconds
                attributes.changedNanoseconds = status.changed.nanoseconds
            }
        }
        return attributes
    }
}

extension WireAttributes {
    /// What a file says of itself, beside size and blocks.
    fileprivate mutating func show(_ status: FileStatus) {
        (mode, uid, gid, links) = (status.mode, status.uid, status.gid, status.links)
        accessedSeconds = status.accessed.seconds
        accessedNanoseconds = status.accessed.nanoseconds
        modifiedSeconds = status.modified.seconds
        modifiedNanoseconds = status.modified.nanoseconds
        changedSeconds = status.changed.seconds
        changedNanoseconds = status.changed.nanoseconds
    }

    /// The permission bits without what a write ends; nil when that is nothing.
    var modeWithoutPrivileges: UInt32? {
        let permissions = mode & 0o7777
        // Without the group's execute bit, set-group-id means mandatory locks and stays.
        let reduced = permissions & ~(mode & 0o010 != 0 ? 0o6000 : 0o4000)
        return reduced == permissions ? nil : reduced
    }
}

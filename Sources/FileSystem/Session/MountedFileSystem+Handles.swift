import Coordination
import Platform
import Synchronization
import SystemPackage

extension MountedFileSystem {
    /// Gives an open file the handle that the kernel is told of; nil when too many are open.
    /// - Parameter request: of the kernel, that opened it.
    package func addHandle(_ file: OpenFile, request: UInt64) -> UInt64? {
        guard let grant = file.inode.note(in: memory, link), let slot = memory.files.take() else { return nil }
        let number = HandleTable<OpenFile>.number(slot, serial: memory.nextSerial())
        memory.files.body(slot).storeBytes(
            of: OpenFileRecord(handle: number, request: request, grant: UInt32(grant), mode: file.kernelMode),
            as: OpenFileRecord.self)
        file.handle.store(number, ordering: .relaxed)
        files.set(file, as: number)
        memory.files.publish(slot)
        return number
    }

    /// The kernel has released a handle: its file, to be closed; nil when the handle is none.
    package func takeFile(_ handle: UInt64) -> OpenFile? {
        guard let file = files.take(handle) else { return nil }
        memory.files.release(HandleTable<OpenFile>.slot(of: handle))
        return file
    }

    /// The same of a directory.
    package func addHandle(_ directory: DirectoryHandle, request: UInt64) -> UInt64? {
        guard let slot = memory.directories.take() else { return nil }
        let number = HandleTable<DirectoryHandle>.number(slot, serial: memory.nextSerial())
        let body = memory.directories.body(slot)
        for index in 0...1 {
            DirectoryRecord.place(index, of: body).storeBytes(
                of: .init(sequence: 0, number: 0, length: 0), as: DirectoryRecord.Place.self)
        }
        body.storeBytes(
            of: DirectoryRecord(handle: number, request: request, inode: directory.inode), as: DirectoryRecord.self)
        directories.set(directory, as: number)
        memory.directories.publish(slot)
        directory.note(in: DirectoryPlace(memory, slot))
        return number
    }

    package func takeDirectory(_ handle: UInt64) -> DirectoryHandle? {
        guard let directory = directories.take(handle) else { return nil }
        directory.note(in: nil)
        memory.directories.release(HandleTable<DirectoryHandle>.slot(of: handle))
        return directory
    }

    /// A request that opens has come again: the kernel never heard of the handle that a predecessor made for it.
    package func dropInherited(_ request: UInt64) {
        guard let handle = inheritedOpens.withLock({ $0.removeValue(forKey: request) }) else { return }
        if let file = takeFile(handle) { return closeLater(file) }
        if let directory = takeDirectory(handle) { link.workers.submit { directory.close() } }
    }

    // MARK: Taking over

    /// Takes over what the predecessor of this process had open. Asks nobody: descriptors come at the first use.
    func restore() {
        var opens: [Int: [(UInt64, KernelMode)]] = [:]
        var records: [Int: OpenFileRecord] = [:]
        for slot in memory.files.all() { records[slot] = memory.files.body(slot).load(as: OpenFileRecord.self) }
        let grants = memory.grants.all().map { ($0, memory.grants.body($0).load(as: GrantRecord.self)) }
        var inodes: [Int: OpenInode] = [:]
        for (slot, record) in grants {
            guard let inode = restored(slot, record) else {
                memory.grants.release(slot)
                continue
            }
            inodes[slot] = inode
        }
        for (slot, record) in records {
            guard let inode = inodes[Int(record.grant)] else {
                memory.files.release(slot)
                continue
            }
            let mode = record.kernelMode(inode.content)
            let file = OpenFile(inode, shared: true, mode)
            file.handle.store(record.handle, ordering: .relaxed)
            files.set(file, as: record.handle)
            inheritedOpens.withLock { $0[record.request] = record.handle }
            opens[Int(record.grant), default: []].append((record.handle, mode))
        }
        for (slot, _) in grants.sorted(by: { $0.1.serial < $1.1.serial }) {
            if let inode = inodes[slot] { openInodes.restore(inode, opens: opens[slot, default: []].map(\.1)) }
        }
        for inode in openInodes.takeUnneeded() { inode.forgetRecord() }
        restoreDirectories()
        for owner in locks.owners() {
            guard let file = files.find(owner.handle)?.takeUnretainedValue() else { continue }
            file.noteOwner(owner.owner, wholeFile: owner.wholeFile)
        }
    }

    private func restored(_ slot: Int, _ record: GrantRecord) -> OpenInode? {
        let body = memory.grants.body(slot)
        guard let path = DataPath(restored: record, record.attributes(behind: body)) else { return nil }
        let flags = GrantRecord.Flags(rawValue: record.flags)
        let inode = OpenInode(record.inode, path, flags.contains(.writing) ? .writing : .reading)
        if flags.contains(.retired) { inode.retire() }
        if flags.contains(.orphaned) { inode.isOrphaned.store(true, ordering: .releasing) }
        if record.failure != 0 { _ = inode.writing?.fail(Errno(rawValue: record.failure)) }
        inode.adopt(slot, record, in: memory, link)
        return inode
    }

    private func restoreDirectories() {
        for slot in memory.directories.all() {
            let record = memory.directories.body(slot).load(as: DirectoryRecord.self)
            let place = DirectoryPlace(memory, slot)
            let directory = DirectoryHandle(record.inode, link, from: place.last())
            directory.note(in: place)
            directories.set(directory, as: record.handle)
            inheritedOpens.withLock { $0[record.request] = record.handle }
        }
    }

    /// Tells a coordinator that has kept the predecessor's session which of its leases are still in use, and ends the locks of
    /// files that the predecessor closed last. Sends.
    func presentLeases() {
        guard memory.isTakenOver, link.generation == 1 else { return }
        let session = link.session
        let leases = openInodes.all().compactMap { inode in
            inode.withPath { path -> UInt64? in
                let isOurs = path.isRestored ? path.session == session : path.generation == 1
                return isOurs && path.lease != 0 ? path.lease : nil
            }
        }
        var start = 0
        repeat {
            var message = WireKeepLeases()
            message.leases = Array(leases[start..<min(start + Self.leasesPerMessage, leases.count)])
            start += Self.leasesPerMessage
            message.end = start >= leases.count
            link.notify(.keepLeases(message), boundTo: 1)
        } while start < leases.count
        for owner in locks.owners() where owner.handle != 0 && files.find(owner.handle) == nil {
            unlockAll(owner.inode, owner.owner, wholeFile: owner.wholeFile) {}
        }
    }

    /// Ten bytes each at most.
    private static var leasesPerMessage: Int { 8192 }
}

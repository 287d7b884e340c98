import Coordination
import Platform
import Synchronization
import SystemPackage

extension MountedFileSystem {
    /// Reads what is here, without a lock, an allocation or a message. nil: something is not here; call `readMissing`.
    ///
    /// Returns less than the buffer only at the end of the file.
    @inline(__always)
    package func readPresent(
        _ file: OpenFile, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) -> Int? {
        guard let count = readWithoutNotice(file, at: offset, into: buffer) else { return nil }
        if file.isTriggered(offset, count) { readAhead(file, offset, count, missed: false) }
        return count
    }

    /// `readPresent` that sends nothing even when the prefetch window would like to hear of the read. Any thread.
    @inline(__always)
    func readWithoutNotice(
        _ file: OpenFile, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) -> Int? {
        let inode = file.inode
        let count: Int? = inode.withPath { path in
            // A newer coordinator does not know who reads the old map, so the old map proves nothing any more.
            if path.kind == .mapped, path.generation != link.generation, !inode.isOrphaned.load(ordering: .relaxed) {
                return nil
            }
            return path.read(at: offset, into: buffer)
        }
        guard let count else { return readSide(file, at: offset, into: buffer) }
        inode.touch(offset, count)
        return count
    }

    private func readSide(
        _ file: OpenFile, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) -> Int? {
        let size = file.inode.withPath { $0.size }
        guard offset < size else { return nil }
        let count = Int(min(UInt64(buffer.count), size - offset))
        return file.readSide(at: offset, into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<count]))
    }

    /// Reads what must be fetched first. Sends: not on a receive thread.
    ///
    /// - Parameters:
    ///   - count: at most `ReadBuffer.size`.
    ///   - answer: gets the bytes, which are valid during the call only, on any thread; fewer than `count` only at
    ///     the end of the file.
    package func readMissing(
        _ file: OpenFile, at offset: UInt64, count: Int, answer: @escaping Answer<ReadBytes>
    ) {
        MissingRead(self, file, offset, min(count, ReadBuffer.size), answer).start()
    }

    /// Tells the prefetch window of a read and sends what it wants fetched.
    func readAhead(_ file: OpenFile, _ offset: UInt64, _ count: Int, missed: Bool) {
        let path = file.inode.path
        // What is not kept cannot be fetched ahead.
        guard path.kind == .mapped else { return }
        let (ranges, triggers) = file.window.withLock { window in
            let ranges = window.note(
                offset: offset, count: count, missed: missed, size: path.size,
                block: UInt64(path.map?.blockSize ?? 1))
            return (ranges, window.triggers(size: path.size))
        }
        file.setTriggers(triggers)
        for range in ranges {
            guard let missing = path.missing(in: range) else { continue }
            link.notify(.fetch(WireFetch(path.lease, missing, prefetch: true)), boundTo: path.generation)
        }
    }
}

/// Bytes that are valid only during the call that gets them.
package struct ReadBytes: @unchecked Sendable {
    package let bytes: UnsafeRawBufferPointer
}

extension WireFetch {
    init(_ lease: UInt64, _ range: Range<UInt64>, prefetch: Bool) {
        self.init()
        self.lease = lease
        offset = range.lowerBound
        length = range.upperBound - range.lowerBound
        self.prefetch = prefetch
    }
}

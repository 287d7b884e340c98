import BlockMaps
import Platform
import SystemPackage

extension CachedObject {
    // As much as one fetch brings; the pieces that follow are fetched meanwhile.
    private static let piece: UInt64 = 4 << 20
    private static let ahead: UInt64 = 64 << 20

    /// Copies the whole object to the start of `file`, fetching what is absent.
    ///
    /// - Parameter inspect: is given all bytes in ascending order, on the task's executor, which must be one that may
    ///   block; nil lets the kernel copy, and share blocks where the file system can.
    /// - Throws: what the source threw, or the `Errno` of a failed read or write.
    package func copy(
        to file: Descriptor, inspect: ((UnsafeRawBufferPointer) -> Void)? = nil
    ) async throws {
        let size = id.size
        let loan = try? loan()
        defer { loan?.close() }
        if inspect == nil, let loan, loan.isComplete, try copyByKernel(loan.data, to: file) { return }
        let reader = try loan?.map.map { try BlockMapReader($0) }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(Self.piece), alignment: 4096)
        defer { buffer.deallocate() }
        var offset: UInt64 = 0
        while offset < size {
            let end = min(offset + Self.piece, size)
            prefetch(end..<min(end + Self.ahead, size))
            let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<Int(end - offset)])
            try await read(offset..<end, into: part, loan, reader)
            try file.write(UnsafeRawBufferPointer(part), at: offset)
            inspect?(UnsafeRawBufferPointer(part))
            offset = end
        }
    }

    private func copyByKernel(_ source: Descriptor, to file: Descriptor) throws -> Bool {
        do throws(Errno) {
            try file.clone(source)
            return true
        } catch {}
        do throws(Errno) { return try file.copy(0..<id.size, of: source) == id.size } catch {
            if error == .noSpace || error == .ioError { throw error }
            return false  // between file systems, or an old kernel
        }
    }

    private func read(
        _ range: Range<UInt64>, into buffer: UnsafeMutableRawBufferPointer, _ loan: BlockLoan?,
        _ reader: BlockMapReader?
    ) async throws {
        for _ in 0..<3 {
            guard let loan else { break }
            if case .readThrough(let memory) = try await ensure(range) {
                return try Self.take(memory, range, into: buffer)
            }
            let epoch = reader?.epoch()
            if let reader, !reader.isPresent(offset: range.lowerBound, length: range.count) { continue }
            guard let count = try? loan.data.read(into: buffer, at: range.lowerBound) else { break }
            if let reader, let epoch, !reader.isUnchanged(since: epoch) { continue }
            if count == range.count { return }
        }
        guard let memory = try await readThrough(range) else { throw CacheError.noTier }
        try Self.take(memory, range, into: buffer)
    }

    private static func take(
        _ memory: ReadThrough, _ range: Range<UInt64>, into buffer: UnsafeMutableRawBufferPointer
    ) throws {
        guard memory.offset <= range.lowerBound,
            memory.offset + UInt64(memory.length) >= range.upperBound,
            try memory.descriptor.read(into: buffer, at: range.lowerBound - memory.offset) == buffer.count
        else { throw Errno.ioError }
    }
}

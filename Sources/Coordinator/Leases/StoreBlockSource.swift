import BlockCaching
import Platform
import UnderStores

/// Fetches blocks of one object version from its store.
struct StoreBlockSource: BlockSource {
    let store: any UnderStore
    let path: ByteString
    let version: ObjectVersion
    /// Called when the store no longer has the version.
    let onVersionGone: @Sendable () -> Void

    func fetch(_ range: Range<UInt64>, into sink: any BlockSink) async throws {
        do {
            try await store.read(path, range: range, expecting: version, into: Adapter(sink: sink))
        } catch {
            if error.kind == .versionChanged || error.kind == .notFound { onVersionGone() }
            throw error
        }
    }

    private struct Adapter: ReadSink {
        let sink: any BlockSink
        func receive(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws { try sink.receive(bytes, at: offset) }
    }
}

/// Collects a read into a memory file.
struct MemoryFileSink: ReadSink {
    let file: Descriptor
    /// Where byte 0 of the file lies in the object.
    let start: UInt64

    func receive(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
        try file.write(bytes, at: offset - start)
    }
}

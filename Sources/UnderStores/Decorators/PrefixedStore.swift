import Platform

/// A directory of another store as a store of its own; it is there while the directory is.
package struct PrefixedStore: UnderStore {
    package let identity: StoreIdentity
    let base: any UnderStore
    let prefix: ByteString

    /// - Parameter prefix: a path of `base`, without leading or trailing slash; empty changes nothing.
    package init(_ base: any UnderStore, prefix: ByteString) {
        self.base = base
        self.prefix = prefix
        identity = prefix.isEmpty ? base.identity : StoreIdentity("\(base.identity)/\(prefix)")
    }

    package func lookup(_ path: ByteString) async throws(StoreError) -> ObjectAttributes? {
        try await base.lookup(full(path))
    }

    package func list(_ path: ByteString) -> any DirectoryListing { base.list(full(path)) }

    package func read(
        _ path: ByteString, range: Range<UInt64>, expecting version: ObjectVersion?, into sink: any ReadSink
    ) async throws(StoreError) {
        try await base.read(full(path), range: range, expecting: version, into: sink)
    }

    package func readLink(_ path: ByteString) async throws(StoreError) -> ByteString {
        try await base.readLink(full(path))
    }

    package func openSource(
        _ path: ByteString, expecting version: ObjectVersion?
    ) async throws(StoreError) -> Descriptor? {
        try await base.openSource(full(path), expecting: version)
    }

    package func space() async throws(StoreError) -> StoreSpace? { try await base.space() }

    package func fileIdentity(of version: ObjectVersion) -> ByteString { base.fileIdentity(of: version) }

    package var counters: StoreCounters { base.counters }

    func full(_ path: ByteString) -> ByteString {
        path.isEmpty ? prefix : prefix.appending(component: path)
    }
}

import Platform

@testable import UnderStores

/// A directory of the node whose next change waits at a gate, before it is made or before its answer is told, for ever: what
/// a coordinator has done when it is killed at that moment.
final class HeldFiles: FileWriting {
    enum Moment: CaseIterable { case before, after }

    let base: LocalStore
    let gate = FaultGate()
    private let moment = Lock<Moment?>(nil)

    init(_ base: LocalStore) { self.base = base }

    /// Holds every change from now on.
    func hold(_ moment: Moment) { self.moment.withLock { $0 = moment } }

    private func held<Answer>(
        _ body: (LocalStore) async throws(FileFailure) -> Answer
    ) async throws(FileFailure) -> Answer {
        let moment = moment.withLock { $0 }
        if moment == .before {
            try? await gate.pass()
            // The coordinator is dead.
            throw FileFailure(5, "killed")
        }
        let answer = try await body(base)
        if moment == .after { try? await gate.pass() }
        return answer
    }

    var identity: StoreIdentity { base.identity }
    var fileWriting: (any FileWriting)? { self }
    func lookup(_ path: ByteString) async throws(StoreError) -> ObjectAttributes? { try await base.lookup(path) }
    func list(_ path: ByteString) -> any DirectoryListing { base.list(path) }
    func readLink(_ path: ByteString) async throws(StoreError) -> ByteString { try await base.readLink(path) }
    func fileIdentity(of version: ObjectVersion) -> ByteString { base.fileIdentity(of: version) }

    func read(
        _ path: ByteString, range: Range<UInt64>, expecting version: ObjectVersion?, into sink: any ReadSink
    ) async throws(StoreError) { try await base.read(path, range: range, expecting: version, into: sink) }

    func openSource(_ path: ByteString, expecting version: ObjectVersion?) async throws(StoreError) -> Descriptor? {
        try await base.openSource(path, expecting: version)
    }

    func open(_ path: ByteString, flags: CInt, identity: ByteString?, as caller: Caller) async throws(FileFailure)
        -> Descriptor
    { try await base.open(path, flags: flags, identity: identity, as: caller) }

    func open(_ file: Descriptor, flags: CInt, as caller: Caller) async throws(FileFailure) -> Descriptor {
        try await base.open(file, flags: flags, as: caller)
    }

    func create(_ path: ByteString, flags: CInt, mode: UInt32, as caller: Caller) async throws(FileFailure)
        -> (Descriptor, ObjectAttributes)
    {
        try await held { base throws(FileFailure) in
            try await base.create(path, flags: flags, mode: mode, as: caller)
        }
    }

    func makeDirectory(_ path: ByteString, mode: UInt32, as caller: Caller) async throws(FileFailure)
        -> ObjectAttributes
    { try await held { base throws(FileFailure) in try await base.makeDirectory(path, mode: mode, as: caller) } }

    func makeNode(_ path: ByteString, mode: UInt32, device: UInt64, as caller: Caller) async throws(FileFailure)
        -> ObjectAttributes
    {
        try await held { base throws(FileFailure) in
            try await base.makeNode(path, mode: mode, device: device, as: caller)
        }
    }

    func makeLink(_ path: ByteString, target: ByteString, as caller: Caller) async throws(FileFailure)
        -> ObjectAttributes
    { try await held { base throws(FileFailure) in try await base.makeLink(path, target: target, as: caller) } }

    func makeHardLink(_ path: ByteString, to existing: ByteString, as caller: Caller) async throws(FileFailure)
        -> ObjectAttributes
    { try await held { base throws(FileFailure) in try await base.makeHardLink(path, to: existing, as: caller) } }

    func remove(_ path: ByteString, as caller: Caller) async throws(FileFailure) {
        try await held { base throws(FileFailure) in try await base.remove(path, as: caller) }
    }

    func removeDirectory(_ path: ByteString, as caller: Caller) async throws(FileFailure) {
        try await held { base throws(FileFailure) in try await base.removeDirectory(path, as: caller) }
    }

    func rename(_ path: ByteString, to destination: ByteString, flags: UInt32, as caller: Caller)
        async throws(FileFailure)
    {
        try await held { base throws(FileFailure) in
            try await base.rename(path, to: destination, flags: flags, as: caller)
        }
    }

    func change(_ path: ByteString, _ change: AttributeChange, as caller: Caller) async throws(FileFailure)
        -> ObjectAttributes
    { try await held { base throws(FileFailure) in try await base.change(path, change, as: caller) } }

    func change(_ file: Descriptor, _ change: AttributeChange, as caller: Caller) async throws(FileFailure)
        -> ObjectAttributes
    { try await base.change(file, change, as: caller) }

    func hold(_ path: ByteString) async throws(FileFailure) -> Descriptor { try await base.hold(path) }

    func attributes(of file: Descriptor) async throws(FileFailure) -> ObjectAttributes {
        try await base.attributes(of: file)
    }

    func extendedAttribute(_ path: ByteString, _ name: ByteString, as caller: Caller) async throws(FileFailure)
        -> ByteString
    { try await base.extendedAttribute(path, name, as: caller) }

    func extendedAttributes(_ path: ByteString, as caller: Caller) async throws(FileFailure) -> [ByteString] {
        try await base.extendedAttributes(path, as: caller)
    }

    func setExtendedAttribute(
        _ path: ByteString, _ name: ByteString, _ value: ByteString, flags: CInt, as caller: Caller
    ) async throws(FileFailure) {
        try await held { base throws(FileFailure) in
            try await base.setExtendedAttribute(path, name, value, flags: flags, as: caller)
        }
    }

    func removeExtendedAttribute(_ path: ByteString, _ name: ByteString, as caller: Caller) async throws(FileFailure) {
        try await held { base throws(FileFailure) in
            try await base.removeExtendedAttribute(path, name, as: caller)
        }
    }

    func synchronizeDirectory(_ path: ByteString) async throws(FileFailure) {
        try await base.synchronizeDirectory(path)
    }
}

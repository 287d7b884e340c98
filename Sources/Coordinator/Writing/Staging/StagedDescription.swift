import Platform
import UnderStores

/// What a staging file says of itself; enough to give its bytes back to a person when the journal is gone.
struct StagedDescription: Hashable, Sendable {
    private static let format = "larder-staged-1"

    let writeType: WriteType
    let store: String
    let path: ByteString

    init(_ target: StagedTarget) {
        writeType = target.writeType
        store = target.store.identity.text
        path = target.path
    }

    /// Format, write type and store in a line each, then the path, which may hold line ends itself.
    var text: ByteString { ByteString("\(Self.format)\n\(writeType.name)\n\(store)\n") + path }

    /// nil when the text is not one of ours.
    init?(text: ByteString) {
        let parts = text.bytes.split(separator: UInt8(ascii: "\n"), maxSplits: 3, omittingEmptySubsequences: false)
        guard parts.count == 4, ByteString(parts[0]) == ByteString(Self.format),
            let type = WriteType(name: String(decoding: parts[1], as: UTF8.self)),
            let store = String(validating: parts[2], as: UTF8.self)
        else { return nil }
        writeType = type
        self.store = store
        path = ByteString(parts[3])
    }
}

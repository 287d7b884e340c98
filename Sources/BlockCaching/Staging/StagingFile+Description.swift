import Glibc
import Platform
import SystemPackage

/// What a staging file says of itself, so that it can be given back even without the journal: in an extended attribute,
/// or in `staging/<number>.about` where the file system has none.
extension StagingFile {
    private static let attribute = "user.larder.staged"
    private var aboutPath: String { path + ".about" }

    /// Replaces the description (4 KiB at most). Changes the file's ctime. Throws EIO, ENOSPC, ….
    package func describe(_ text: ByteString) throws(Errno) {
        do throws(Errno) { try ExtendedAttribute.set(Self.attribute, to: text, of: path) } catch {
            guard error == .notSupported || error == .notSupportedOnSocket || error == .noSpace else { throw error }
            let file = try Descriptor.open(aboutPath, O_WRONLY | O_CREAT | O_TRUNC)
            try text.bytes.withUnsafeBufferPointer { bytes throws(Errno) in
                try file.write(UnsafeRawBufferPointer(bytes), at: 0)
            }
        }
    }

    /// nil when there is none.
    package func description() -> ByteString? {
        if let text = try? ExtendedAttribute.value(Self.attribute, of: path) { return text }
        return Machine.contents(of: aboutPath).map { ByteString($0) }
    }

    func removeDescription() {
        if unlink(aboutPath) == 0 { return }
        try? descriptor().removeExtendedAttribute(ByteString(Self.attribute))
    }
}

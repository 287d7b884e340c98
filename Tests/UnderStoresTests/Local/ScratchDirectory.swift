import Glibc
import Platform

/// A directory that is gone, with all in it, when the last reference goes.
final class ScratchDirectory: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/larder-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw ScratchError("mkdtemp", errno) }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { Self.removeTree(ByteString(path)) }

    func full(_ name: ByteString) -> ByteString { ByteString(path).appending(component: name) }

    /// Creates or replaces a file, with the directories above it, by renaming a complete one into place.
    func write(_ name: ByteString, _ bytes: [UInt8]) throws {
        makeParents(of: name)
        let temporary = path + "-new-\(MonotonicClock.now())"
        let file = try Descriptor.open(temporary, O_WRONLY | O_CREAT | O_EXCL, mode: 0o644)
        try bytes.withUnsafeBytes { try file.write($0, at: 0) }
        guard full(name).withCString({ rename(temporary, $0) }) == 0 else {
            unlink(temporary)
            throw ScratchError("rename", errno)
        }
    }

    /// Writes to an existing file in place.
    func overwrite(_ name: String, at offset: UInt64, _ bytes: [UInt8]) throws {
        let file = try Descriptor.open("\(path)/\(name)", O_WRONLY)
        try bytes.withUnsafeBytes { try file.write($0, at: offset) }
    }

    func makeDirectory(_ name: ByteString) {
        makeParents(of: name)
        _ = full(name).withCString { mkdir($0, 0o755) }
    }

    func link(_ name: ByteString, to target: ByteString) throws {
        makeParents(of: name)
        let result = full(name).withCString { name in target.withCString { symlink($0, name) } }
        guard result == 0 else { throw ScratchError("symlink", errno) }
    }

    func remove(_ name: ByteString) throws {
        guard full(name).withCString({ unlink($0) }) == 0 else { throw ScratchError("unlink", errno) }
    }

    private func makeParents(of name: ByteString) {
        var directory = ByteString(path)
        for part in name.components.dropLast() {
            directory = directory.appending(component: part)
            _ = directory.withCString { mkdir($0, 0o755) }
        }
    }

    private static func removeTree(_ path: ByteString) {
        if let directory = try? Descriptor.open(path.description, O_RDONLY | O_DIRECTORY) {
            empty(directory)
        }
        _ = path.withCString { rmdir($0) }
    }

    private static func empty(_ directory: Descriptor) {
        _ = fchmod(directory.raw, 0o700)
        let reader = DirectoryReader(directory)
        while let name = try? reader.next() {
            if let inner = try? directory.open(beneath: name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW) { empty(inner) }
            if name.withCString({ unlinkat(directory.raw, $0, 0) }) != 0 {
                _ = name.withCString { unlinkat(directory.raw, $0, AT_REMOVEDIR) }
            }
        }
    }
}

struct ScratchError: Error, CustomStringConvertible {
    let description: String
    init(_ call: String, _ code: CInt) { description = "\(call): \(String(cString: strerror(code)))" }
}

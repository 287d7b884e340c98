import Crypto
import Platform

#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// What an object or part is made of.
enum UploadContent: Sendable {
    case bytes([UInt8])
    case file(UploadBody)

    var size: UInt64 {
        switch self {
        case .bytes(let bytes): UInt64(bytes.count)
        case .file(let body): UInt64(body.range.count)
        }
    }

    /// Whether somebody else has said what the checksum must be.
    var hasGivenChecksum: Bool {
        switch self {
        case .bytes: true
        case .file(let body): body.checksum != nil
        }
    }
}

/// The checksums of what is sent, so that the store can refuse it when it arrives changed.
///
/// CRC32C costs least by far, then SHA-256, then MD5 (1.7 and 0.7 GB/s with one core, by openssl speed). So CRC32C goes along always, and MD5 only to
/// stores that do not check the former.
struct UploadDigest: Hashable, Sendable {
    let crc32c: UInt32
    /// nil unless it was wanted.
    let md5: [UInt8]?

    /// Where files are read for their checksums.
    private static let readers = WorkerPool(name: "larder-digest", threads: 4)
    private static let step: UInt64 = 1 << 20

    /// Reads the content, unless what is wanted is known. Throws `.inputOutput`, and `.checksumMismatch` when it has been
    /// read and is not what its given checksum says.
    static func of(_ content: UploadContent, withMD5: Bool) async throws(StoreError) -> UploadDigest {
        switch content {
        case .bytes(let bytes):
            return UploadDigest(
                crc32c: bytes.withUnsafeBytes { CRC32C.of($0) },
                md5: withMD5 ? Array(Insecure.MD5.hash(data: bytes)) : nil)
        case .file(let body):
            if let known = body.checksum, !withMD5 || body.md5 != nil {
                return UploadDigest(crc32c: known, md5: withMD5 ? body.md5 : nil)
            }
            return try await readers.run { () throws(StoreError) in try read(body, withMD5: withMD5) }
        }
    }

    private static func read(_ body: UploadBody, withMD5: Bool) throws(StoreError) -> UploadDigest {
        var (checksum, md5) = (CRC32C(), Insecure.MD5())
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: max(1, Int(min(step, UInt64(body.range.count)))), alignment: 4096)
        defer { buffer.deallocate() }
        var offset = body.range.lowerBound
        while offset < body.range.upperBound {
            let piece = UnsafeMutableRawBufferPointer(
                rebasing: buffer[..<Int(min(step, body.range.upperBound - offset))])
            let count: Int
            do { count = try body.file.read(into: piece, at: offset) } catch {
                throw StoreError(.inputOutput, "a file to be sent cannot be read: \(error)")
            }
            guard count == piece.count else {
                throw StoreError(.inputOutput, "a file to be sent ends at byte \(offset + UInt64(count))")
            }
            checksum.update(UnsafeRawBufferPointer(piece))
            if withMD5 { md5.update(bufferPointer: UnsafeRawBufferPointer(piece)) }
            offset += UInt64(count)
        }
        if let meant = body.checksum, meant != checksum.value {
            throw StoreError(.checksumMismatch, "a file to be sent has other bytes than were meant")
        }
        return UploadDigest(crc32c: checksum.value, md5: withMD5 ? Array(md5.finalize()) : nil)
    }

    /// As the headers and documents of S3 have it: Base64 of the big-endian value.
    static func text(ofCRC32C value: UInt32) -> String {
        Data(withUnsafeBytes(of: value.bigEndian) { Array($0) }).base64EncodedString()
    }

    static func value(ofCRC32C text: String) -> UInt32? {
        guard let bytes = Data(base64Encoded: text), bytes.count == 4 else { return nil }
        return bytes.reduce(0) { $0 << 8 | UInt32($1) }
    }

    /// "Checking object integrity" (Amazon S3 User Guide).
    var headers: [(name: String, value: String)] {
        var headers = [
            (name: "x-amz-sdk-checksum-algorithm", value: "CRC32C"),
            (name: "x-amz-checksum-crc32c", value: Self.text(ofCRC32C: crc32c)),
        ]
        if let md5 { headers.append(("Content-MD5", Data(md5).base64EncodedString())) }
        return headers
    }

    /// The MD5 that an ETag of 32 digits may be; nil of any other.
    static func md5(ofTag tag: String) -> [UInt8]? {
        let digits = tag.trimmingQuotes()
        guard digits.utf8.count == 32 else { return nil }
        var bytes: [UInt8] = []
        var rest = Substring(digits)
        while !rest.isEmpty {
            guard let byte = UInt8(rest.prefix(2), radix: 16) else { return nil }
            bytes.append(byte)
            rest = rest.dropFirst(2)
        }
        return bytes
    }

    /// The ETag of an object made of parts with these ETags, as most stores compute it; nil when they are no MD5s.
    static func tag(ofParts tags: [String]) -> String? {
        var md5 = Insecure.MD5()
        for tag in tags {
            guard let part = Self.md5(ofTag: tag) else { return nil }
            md5.update(data: part)
        }
        return "\"\(hexadecimal(md5.finalize()))-\(tags.count)\""
    }
}

extension StringProtocol {
    /// Without the double quotes around an ETag.
    func trimmingQuotes() -> String {
        guard utf8.count >= 2, hasPrefix("\""), hasSuffix("\"") else { return String(self) }
        return String(dropFirst().dropLast())
    }
}

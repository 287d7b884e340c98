import Glibc
import Platform

extension StoreContract {
    static let uploadChecks: [WritingCheck] = [
        WritingCheck("parts become one object when they are completed, and not before") { context in
            let smallest = Int(context.writer.limits.smallestPart)
            let bytes = ContractContext.pattern(smallest + 1, seed: 9)
            var metadata = WrittenMetadata()
            metadata.mode = S_IFREG | 0o600
            let upload = try await context.begin("parts", metadata)
            // Out of order.
            let last = try await context.part(upload, "parts", 2, Array(bytes[smallest...]))
            let first = try await context.part(upload, "parts", 1, Array(bytes[..<smallest]))
            try await context.expectAbsent("parts")
            let pending = try await context.writer.uploads(under: context.root)
            try expect(
                pending.contains { $0.path == context.path("parts") && $0.upload == upload }, "it is not under way")
            let made = try await context.writer.completeUpload(
                upload, of: context.path("parts"), parts: [first, last], size: UInt64(bytes.count), if: .none)
            try await context.expectFound(made, at: "parts")
            try expect(made.size == UInt64(bytes.count), "it was made with \(made.size) bytes")
            try expect(try await context.read("parts") == bytes, "it has other bytes")
            try expect(
                try await context.writer.metadata(of: context.path("parts"))?.metadata.mode == metadata.mode,
                "it has another mode")
            let left = try await context.writer.uploads(under: context.root)
            try expect(!left.contains { $0.upload == upload }, "the upload is still under way")
            return ""
        },
        WritingCheck("a part that is sent again replaces the earlier one") { context in
            let upload = try await context.begin("again")
            do {
                _ = try await context.part(upload, "again", 1, [1, 2, 3])
                let part = try await context.part(upload, "again", 1, [4, 5])
                let made = try await context.writer.completeUpload(
                    upload, of: context.path("again"), parts: [part], size: 2, if: .none)
                try await context.expectFound(made, at: "again")
                try expect(try await context.read("again") == [4, 5], "it has other bytes")
            } catch {
                try? await context.writer.abortUpload(upload, of: context.path("again"))
                throw error
            }
            return ""
        },
        WritingCheck("an upload on condition of absence never replaces an object") { context in
            let made = try await context.put("occupied", [1, 2, 3])
            let upload = try await context.begin("occupied")
            let part = try await context.part(upload, "occupied", 1, [4, 5])
            try await context.expectError(.versionChanged, from: "the completion") {
                _ = try await context.writer.completeUpload(
                    upload, of: context.path("occupied"), parts: [part], size: 2, if: .absent)
            }
            try await context.expectFound(made, at: "occupied")
            let pending = try await context.writer.uploads(under: context.root)
            try expect(pending.contains { $0.upload == upload }, "the upload has gone with the refusal")
            try await context.writer.abortUpload(upload, of: context.path("occupied"))
            let free = try await context.begin("free")
            let only = try await context.part(free, "free", 1, [6])
            let new = try await context.writer.completeUpload(
                free, of: context.path("free"), parts: [only], size: 1, if: .absent)
            try await context.expectFound(new, at: "free")
            return context.completionNote
        },
        WritingCheck("an upload on condition of a version replaces that version only") { context in
            let first = try await context.put("grown", [1])
            guard let version = first.version else { throw ContractFailure(description: "it has no version") }
            let upload = try await context.begin("grown")
            let part = try await context.part(upload, "grown", 1, [4, 5])
            let second = try await context.writer.completeUpload(
                upload, of: context.path("grown"), parts: [part], size: 2, if: .version(version))
            try await context.expectFound(second, at: "grown")
            let late = try await context.begin("grown")
            let other = try await context.part(late, "grown", 1, [7, 8, 9])
            try await context.expectError(.versionChanged, from: "a completion on the first version") {
                _ = try await context.writer.completeUpload(
                    late, of: context.path("grown"), parts: [other], size: 3, if: .version(version))
            }
            try await context.expectFound(second, at: "grown")
            try await context.writer.abortUpload(late, of: context.path("grown"))
            return context.completionNote
        },
        WritingCheck("an aborted upload is gone, and aborting it again is no error") { context in
            let path = context.path("aborted")
            let upload = try await context.begin("aborted")
            let part = try await context.part(upload, "aborted", 1, [1, 2, 3])
            try await context.writer.abortUpload(upload, of: path)
            try await context.writer.abortUpload(upload, of: path)
            try await context.expectError(.notFound, from: "its completion") {
                _ = try await context.writer.completeUpload(upload, of: path, parts: [part], size: 3, if: .none)
            }
            try await context.expectError(.notFound, from: "another part of it") {
                _ = try await context.part(upload, "aborted", 2, [1])
            }
            try await context.expectAbsent("aborted")
            return ""
        },
        WritingCheck("a part that does not fit its checksum is refused") { context in
            let upload = try await context.begin("damaged")
            try await context.expectError(.checksumMismatch, from: "the part") {
                _ = try await context.writer.uploadPart(
                    upload, of: context.path("damaged"), number: 1, context.body([1, 2], checksum: 7))
            }
            try await context.writer.abortUpload(upload, of: context.path("damaged"))
            return ""
        },
        WritingCheck("a part can be a range of another object") { context in
            let smallest = Int(context.writer.limits.smallestPart)
            let bytes = ContractContext.pattern(smallest + 100, seed: 4)
            let source = try await context.put("whole", bytes)
            let upload = try await context.begin("patched")
            do {
                let range = 50..<UInt64(smallest + 50)
                let first = try await context.writer.copyPart(
                    upload, of: context.path("patched"), number: 1, from: context.path("whole"), range: range,
                    expecting: source.version)
                let second = try await context.part(upload, "patched", 2, [1, 2, 3])
                let made = try await context.writer.completeUpload(
                    upload, of: context.path("patched"), parts: [first, second], size: UInt64(smallest + 3), if: .none)
                try await context.expectFound(made, at: "patched")
                try expect(
                    try await context.read("patched") == bytes[50..<(smallest + 50)] + [1, 2, 3], "it has other bytes")
            } catch {
                try? await context.writer.abortUpload(upload, of: context.path("patched"))
                throw error
            }
            let late = try await context.begin("patched")
            try await context.expectError(.versionChanged, from: "a part of another version") {
                _ = try await context.writer.copyPart(
                    late, of: context.path("patched"), number: 1, from: context.path("whole"), range: 0..<10,
                    expecting: ObjectVersion("\"00000000000000000000000000000000\""))
            }
            try await context.writer.abortUpload(late, of: context.path("patched"))
            return ""
        },
    ]
}

extension WritingContext {
    /// Begins an upload that is aborted at the end, whatever becomes of it.
    func begin(_ name: ByteString, _ metadata: WrittenMetadata = .init()) async throws -> UploadID {
        let upload = try await writer.beginUpload(path(name), metadata)
        begun.withLock { $0.append((path(name), upload)) }
        return upload
    }

    func part(_ upload: UploadID, _ name: ByteString, _ number: Int, _ bytes: [UInt8]) async throws -> UploadedPart {
        try await writer.uploadPart(upload, of: path(name), number: number, body(bytes))
    }

    /// Who makes sure of conditions of completions.
    var completionNote: String {
        let enforced = writer.conditions
        return enforced.completeAbsent && enforced.completeVersion ? "by the store" : "by looking before and after"
    }
}

import Glibc
import Platform

extension StoreContract {
    static let objectChecks: [WritingCheck] = [
        WritingCheck("a written object has its bytes, and the attributes that the call returned") { context in
            for (name, size) in [("empty", 0), ("single", 1), ("large", 3 << 20 | 17)] as [(ByteString, Int)] {
                let bytes = ContractContext.pattern(size, seed: UInt64(size))
                let made = try await context.put(name, bytes)
                try expect(made.kind == .file && made.size == UInt64(size), "\"\(name)\" was made as \(made)")
                try await context.expectFound(made, at: name)
                try expect(try await context.read(name) == bytes, "\"\(name)\" has other bytes")
            }
            return ""
        },
        WritingCheck("mode, owner and time come back as they were written") { context in
            var metadata = WrittenMetadata()
            metadata.mode = S_IFREG | 0o640
            metadata.uid = 1234
            metadata.gid = 4321
            metadata.modified = FileTime(seconds: 1_600_000_000, nanoseconds: 123_456_789)
            let made = try await context.put("owned", [1, 2, 3], metadata)
            guard let found = try await context.store.lookup(context.path("owned")) else {
                throw ContractFailure(description: "it is not found")
            }
            for shown in [made, found] {
                try expect(shown.permissions == 0o640, "its mode is \(String(shown.permissions ?? 0, radix: 8))")
                try expect(shown.uid == 1234 && shown.gid == 4321, "its owner is \(shown.uid ?? 0):\(shown.gid ?? 0)")
                try expect(shown.modified == metadata.modified, "its time is \(shown.modified)")
            }
            return ""
        },
        WritingCheck("xattrs, content type and foreign metadata come back as they were written") { context in
            var metadata = WrittenMetadata()
            metadata.mode = S_IFREG | 0o600
            metadata.extendedAttributes = ["color": "blue", "a\"b": ByteString([0, 1, 255]), "empty": ""]
            metadata.preserved = ["cache-control": "no-cache", "x-amz-meta-project": "larder + co"]
            try await context.put("tagged.json", [1], metadata)
            guard let found = try await context.writer.metadata(of: context.path("tagged.json")) else {
                throw ContractFailure(description: "it has no metadata")
            }
            try expect(
                found.metadata.extendedAttributes == metadata.extendedAttributes,
                "the xattrs are \(found.metadata.extendedAttributes)")
            try expect(found.metadata.contentType == "application/json", "\(found.metadata.contentType ?? "no type")")
            try expect(found.metadata.preserved == metadata.preserved, "\(found.metadata.preserved)")
            try expect(try await context.writer.metadata(of: context.path("no")) == nil, "a missing one has metadata")
            return ""
        },
        WritingCheck("more metadata than S3 takes is refused before anything is sent") { context in
            var metadata = WrittenMetadata()
            metadata.extendedAttributes = ["long": ByteString([UInt8](repeating: 65, count: 3000))]
            try await context.expectError(.invalid, from: "the put") { try await context.put("fat", [1], metadata) }
            try await context.expectAbsent("fat")
            return ""
        },
        WritingCheck("a replaced object has the new bytes, metadata and another version") { context in
            var metadata = WrittenMetadata()
            metadata.mode = S_IFREG | 0o600
            let first = try await context.put("replaced", [1, 2, 3], metadata)
            let second = try await context.put("replaced", [4, 5], .init())
            try expect(first.version != second.version, "both versions are \(first.version?.description ?? "none")")
            try await context.expectFound(second, at: "replaced")
            try expect(try await context.read("replaced") == [4, 5], "it has other bytes")
            let found = try await context.writer.metadata(of: context.path("replaced"))
            try expect(found?.metadata.mode == nil, "it has the mode of the old one")
            return ""
        },
        WritingCheck("a put on condition of absence never replaces an object") { context in
            let made = try await context.put("once", [1, 2, 3], if: .absent)
            try await context.expectError(.versionChanged, from: "the second put") {
                try await context.put("once", [4], if: .absent)
            }
            try await context.expectFound(made, at: "once")
            return context.conditionsNote
        },
        WritingCheck("a put on condition of a version replaces that version only") { context in
            let first = try await context.put("versioned", [1])
            guard let version = first.version else { throw ContractFailure(description: "it has no version") }
            let second = try await context.put("versioned", [1, 2], if: .version(version))
            try await context.expectFound(second, at: "versioned")
            try await context.expectError(.versionChanged, from: "a put on the first version") {
                try await context.put("versioned", [9, 9, 9], if: .version(version))
            }
            try await context.expectFound(second, at: "versioned")
            try await context.expectError(.versionChanged, from: "a put on a version of a missing object") {
                try await context.put("never", [9], if: .version(version))
            }
            try await context.expectAbsent("never")
            return context.conditionsNote
        },
        WritingCheck("bytes that do not fit their checksum are refused, and nothing is changed") { context in
            let made = try await context.put("sound", [1, 2, 3])
            try await context.expectError(.checksumMismatch, from: "the put") {
                _ = try await context.writer.put(
                    context.path("sound"), context.body([4, 5], checksum: 1), .init(), if: .none)
            }
            try await context.expectFound(made, at: "sound")
            return ""
        },
        WritingCheck("names with odd characters are kept as they are") { context in
            let names: [ByteString] = [
                "a b", "a+b", "a%20b", "a%2Bb", "100%", "q?x=1&y=2", "#", "<&>\"'", "ünï", "日本", "~!@$^*()_-=[]{}|;:,.",
            ]
            for name in names { try await context.put(ByteString("odd").appending(component: name), Array(name.bytes)) }
            for name in names {
                let read = try await context.read(ByteString("odd").appending(component: name))
                try expect(read == name.bytes, "\"\(name)\" has the bytes of another")
            }
            let keys = try await context.keys(under: "odd")
            try expect(Set(keys) == Set(names), "the keys are \(keys)")
            let failures = try await context.writer.removeAll(
                names.map { context.path(ByteString("odd").appending(component: $0)) })
            try expect(failures.isEmpty, "\(failures)")
            try expect(try await context.keys(under: "odd").isEmpty, "not all were removed")
            return ""
        },
        WritingCheck("a key as long as the store takes is written, and a longer one refused") { context in
            let longest = context.writer.limits.longestKey
            var name = ByteString("long")
            // The prefix of the store takes its part too; find the longest that it lets through.
            while name.count < longest - context.root.count - 1 {
                let room = longest - context.root.count - 2 - name.count
                name =
                    room > 0
                    ? name.appending(component: ByteString([UInt8](repeating: 107, count: min(room, 200)))) : name + "k"
            }
            try await context.expectError(.nameTooLong, from: "a put of one byte more") {
                try await context.put(name + "kk", [1])
            }
            var made: ObjectAttributes?
            while made == nil, name.count > longest / 2 {
                do { made = try await context.put(name, [1, 2]) } catch let error as StoreError {
                    guard error.kind == .nameTooLong else { throw error }
                    name = ByteString(name.bytes.dropLast())
                    if name.bytes.last == UInt8(ascii: "/") { name = ByteString(name.bytes.dropLast()) }
                }
            }
            guard let made else { throw ContractFailure(description: "no name of half that length is taken") }
            try await context.expectFound(made, at: name)
            try await context.expectError(.nameTooLong, from: "a name of 256 bytes") {
                try await context.put(ByteString([UInt8](repeating: 107, count: 256)), [1])
            }
            return "\(context.root.count + 1 + name.count) bytes"
        },
        WritingCheck("a removed object is gone, and removing it again is no error") { context in
            try await context.put("gone/one", [1])
            try await context.writer.remove(context.path("gone/one"), if: .none)
            try await context.expectAbsent("gone/one")
            try await context.writer.remove(context.path("gone/one"), if: .none)
            return ""
        },
        WritingCheck("a removal on condition of a version removes that version only") { context in
            let first = try await context.put("kept", [1])
            let second = try await context.put("kept", [1, 2])
            guard let old = first.version, let new = second.version else {
                throw ContractFailure(description: "it has no version")
            }
            try await context.expectError(.versionChanged, from: "a removal of the old version") {
                try await context.writer.remove(context.path("kept"), if: .version(old))
            }
            try await context.expectFound(second, at: "kept")
            try await context.writer.remove(context.path("kept"), if: .version(new))
            try await context.expectAbsent("kept")
            return ""
        },
    ]
}

extension WritingContext {
    /// Who makes sure of conditions.
    var conditionsNote: String {
        let enforced = writer.conditions
        return enforced.putAbsent && enforced.putVersion ? "by the store" : "by looking before and after"
    }
}

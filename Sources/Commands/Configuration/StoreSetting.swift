/// What can be said of one mount point's store. The raw value is the key in a namespace file.
package enum StoreSetting: String, CaseIterable, Hashable, Sendable {
    case endpoint, region, profile, credentialsFile, anonymous, pathStyle, requesterPays, caFile, proxy
    case sseCustomerKeyFile, insecureTLS
    case serverSideEncryption, kmsKeyID, storageClass, tags, acl
    case readOnly, writeType, writeTypes, metadataTTL, negativeTTL, cache, uid, gid, fileMode, dirMode

    /// The name as a flag and as a mount option: `metadataTTL` is `metadata-ttl`.
    package var optionName: String {
        switch self {
        case .insecureTLS: return "insecure-tls"
        case .kmsKeyID: return "kms-key-id"
        case .metadataTTL: return "metadata-ttl"
        case .negativeTTL: return "negative-ttl"
        default: return rawValue.reduce(into: "") { $0 += $1.isUppercase ? "-" + $1.lowercased() : String($1) }
        }
    }

    package init?(optionName: String) {
        guard let found = Self.allCases.first(where: { $0.optionName == optionName }) else { return nil }
        self = found
    }

    /// Whether an option without a value means `true`.
    package var isFlag: Bool {
        switch self {
        case .anonymous, .requesterPays, .insecureTLS, .readOnly: true
        default: false
        }
    }

    /// Whether it only makes sense for an S3 store.
    package var isForS3: Bool {
        switch self {
        case .endpoint, .region, .profile, .credentialsFile, .anonymous, .pathStyle, .requesterPays, .caFile, .proxy,
            .sseCustomerKeyFile, .insecureTLS, .serverSideEncryption, .kmsKeyID, .storageClass, .tags, .acl:
            true
        case .readOnly, .writeType, .writeTypes, .metadataTTL, .negativeTTL, .cache, .uid, .gid, .fileMode, .dirMode:
            false
        }
    }

    /// Checks `text` and brings it to one form, which is accepted again: a path absolute, a duration in seconds.
    /// - Parameter directory: what relative paths are relative to.
    /// - Throws: `CommandFailure` (usage) that tells what is expected; it never repeats a URL, which may hold a password.
    package func normalize(_ text: String, relativeTo directory: String) throws(CommandFailure) -> String {
        guard !text.isEmpty else { throw CommandFailure(.usage, "is empty: give a value or leave it out") }
        guard !text.utf8.contains(0) else { throw CommandFailure(.usage, "holds a NUL character") }
        switch self {
        case .region, .profile, .kmsKeyID: return text
        case .endpoint: return try HTTPAddress.normalize(text)
        case .proxy: return try HTTPAddress.normalizeProxy(text)
        case .credentialsFile, .caFile, .sseCustomerKeyFile: return FilePaths.absolute(text, relativeTo: directory)
        case .anonymous, .requesterPays, .insecureTLS, .readOnly: return try boolean(text) ? "true" : "false"
        case .writeType: return try exactChoice(text, Self.writeTypeNames)
        case .writeTypes:
            let pairs = Self.pairs(text)
            guard !pairs.isEmpty else {
                throw CommandFailure(.usage, "\"\(text)\" is not a list: write checkpoints=asyncThrough;tmp=mustCache")
            }
            var rules: [String] = []
            for (path, type) in pairs.sorted(by: { $0.key < $1.key }) {
                rules.append("\(path)=\(try exactChoice(type, Self.writeTypeNames))")
            }
            return rules.joined(separator: ";")
        case .serverSideEncryption: return try exactChoice(text, ["AES256", "aws:kms", "aws:kms:dsse"])
        case .acl:
            return try exactChoice(
                text,
                [
                    "private", "public-read", "public-read-write", "authenticated-read", "aws-exec-read",
                    "bucket-owner-read", "bucket-owner-full-control",
                ])
        case .storageClass:
            guard text.utf8.allSatisfy({ (65...90).contains($0) || (48...57).contains($0) || $0 == 95 }) else {
                throw CommandFailure(.usage, "\"\(text)\" is no storage class: write for instance STANDARD_IA")
            }
            return text
        case .tags:
            let pairs = Self.pairs(text)
            let fit = pairs.allSatisfy { $0.key.utf16.count <= 128 && $0.value.utf16.count <= 256 }
            guard !pairs.isEmpty, pairs.count <= 10, fit else {
                throw CommandFailure(
                    .usage, "\"\(text)\" is not a list of tags: write up to ten as team=data;tier=gold")
            }
            return pairs.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ";")
        case .pathStyle: return try choice(text, ["auto", "on", "off"])
        case .cache: return try choice(text, ["auto", "always", "never"])
        case .metadataTTL, .negativeTTL:
            return TimeSpan.formatExactly(milliseconds: try TimeSpan.parse(text))
        case .uid, .gid:
            // The largest number means "no change" to the kernel.
            guard let number = UInt32(text), number < UInt32.max else {
                throw CommandFailure(.usage, "\"\(text)\" is not a numeric id between 0 and 4294967294")
            }
            return "\(number)"
        case .fileMode, .dirMode:
            guard let mode = UInt32(text, radix: 8), mode <= 0o7777 else {
                throw CommandFailure(.usage, "\"\(text)\" is not a mode: write it in octal, for instance 0644")
            }
            return "0" + String(mode, radix: 8)
        }
    }

    private static let writeTypeNames = ["cacheThrough", "through", "asyncThrough", "mustCache"]

    /// What is written as `key=value;key=value`; empty when the text is not that. A comma would end a mount option.
    static func pairs(_ text: String) -> [String: String] {
        var pairs: [String: String] = [:]
        for part in text.split(separator: ";") {
            let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard pair.count == 2, !pair[0].isEmpty else { return [:] }
            pairs[String(pair[0])] = String(pair[1])
        }
        return pairs
    }

    private func exactChoice(_ text: String, _ choices: [String]) throws(CommandFailure) -> String {
        guard let choice = choices.first(where: { $0.lowercased() == text.lowercased() }) else {
            throw CommandFailure(.usage, "\"\(text)\" is not one of \(choices.joined(separator: ", "))")
        }
        return choice
    }

    private func boolean(_ text: String) throws(CommandFailure) -> Bool {
        switch text.lowercased() {
        case "true", "yes", "on", "1": return true
        case "false", "no", "off", "0": return false
        default: throw CommandFailure(.usage, "\"\(text)\" is neither true nor false")
        }
    }

    private func choice(_ text: String, _ choices: [String]) throws(CommandFailure) -> String {
        // YAML writers expect on and off to be what true and false are.
        let aliases = choices.contains("on") ? ["true": "on", "false": "off"] : [:]
        let word = aliases[text.lowercased()] ?? text.lowercased()
        guard choices.contains(word) else {
            throw CommandFailure(.usage, "\"\(text)\" is not one of \(choices.joined(separator: ", "))")
        }
        return word
    }
}

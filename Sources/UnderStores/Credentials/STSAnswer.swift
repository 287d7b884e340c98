/// What counts of an XML answer of STS: the credentials of a success, or the code of an error.
struct STSAnswer: Sendable {
    var accessKeyID: String?
    var secretAccessKey: String?
    var sessionToken: String?
    var expiration: String?
    var errorCode: String?

    /// nil when `body` is not XML.
    init?(_ body: [UInt8]) {
        do {
            let reader = try XMLReader(Handler(), sizeLimit: 256 << 10)
            try body.withUnsafeBytes { try reader.feed($0) }
            try reader.finish()
            self = reader.handler.answer
        } catch { return nil }
    }

    private init() {}

    private struct Handler: XMLElementHandler {
        var answer = STSAnswer()
        private var path: [String] = []

        mutating func begin(_ name: String, depth: Int) { path.append(name) }

        mutating func end(_ name: String, depth: Int, text: [UInt8]) {
            path.removeLast()
            let value = String(decoding: text, as: UTF8.self)
            switch (path.last, name) {
            case ("Credentials", "AccessKeyId"): answer.accessKeyID = value
            case ("Credentials", "SecretAccessKey"): answer.secretAccessKey = value
            case ("Credentials", "SessionToken"): answer.sessionToken = value
            case ("Credentials", "Expiration"): answer.expiration = value
            case ("Error", "Code"): answer.errorCode = value
            default: break
            }
        }
    }
}

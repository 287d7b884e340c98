import Platform

/// The error document of S3 ("REST Error Responses", Amazon S3 API Reference).
package struct S3ErrorDocument: Hashable, Sendable {
    package var code = ""
    package var message = ""
    /// Where the bucket is, in answers to a request that went to the wrong region.
    package var region: String?
    package var endpoint: String?

    package init() {}

    /// nil when `body` is not such a document; an error without one is judged by its status alone.
    package init?(_ body: [UInt8]) {
        guard !body.isEmpty, let reader = try? XMLReader(Handler(), sizeLimit: 64 << 10) else { return nil }
        do {
            try body.withUnsafeBytes { try reader.feed($0) }
            try reader.finish()
        } catch { return nil }
        guard !reader.handler.document.code.isEmpty else { return nil }
        self = reader.handler.document
    }

    private struct Handler: XMLElementHandler {
        var document = S3ErrorDocument()
        private var isError = false

        mutating func begin(_ name: String, depth: Int) { if depth == 1 { isError = name == "Error" } }

        mutating func end(_ name: String, depth: Int, text: [UInt8]) {
            guard depth == 2, isError else { return }
            let value = String(decoding: text, as: UTF8.self)
            switch name {
            case "Code": document.code = value
            case "Message": document.message = value
            case "Region": document.region = value
            case "Endpoint": document.endpoint = value
            default: break
            }
        }
    }
}

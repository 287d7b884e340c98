import Platform
import TestSupport
import Testing

@testable import UnderStores

@Suite struct StoreDocuments {
    private func parse(_ text: String, inPiecesOf size: Int = .max) throws -> ListBucketPage {
        let reader = try XMLReader(ListBucketHandler(), sizeLimit: 1 << 20)
        let bytes = Array(text.utf8)
        let step = max(1, min(size, bytes.count))
        for start in stride(from: 0, to: bytes.count, by: step) {
            try Array(bytes[start..<min(start + step, bytes.count)]).withUnsafeBytes { try reader.feed($0) }
        }
        try reader.finish()
        return reader.handler.page
    }

    private static let listing = """
        <?xml version="1.0" encoding="UTF-8"?>
        <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>lake</Name><Prefix>x</Prefix>
        <IsTruncated>true</IsTruncated><EncodingType>url</EncodingType>
        <NextContinuationToken>to&amp;ken</NextContinuationToken>
        <Contents><Key>a+b%2B%C3%BC</Key><LastModified>2013-05-24T00:00:00.000Z</LastModified>
        <ETag>&quot;e1&quot;</ETag><Size>17</Size><Owner><ID>Key</ID><Key>no</Key></Owner></Contents>
        <Contents><Size>0</Size><Key><![CDATA[c]]></Key></Contents>
        <CommonPrefixes><Prefix>d%2F</Prefix></CommonPrefixes></ListBucketResult>
        """

    @Test(arguments: [1, 3, 17, 1000])
    func aListingIsReadInPiecesOfAnySize(_ size: Int) throws {
        let page = try parse(Self.listing, inPiecesOf: size)
        #expect(page.isTruncated && page.nextToken == "to&ken")
        #expect(page.objects.map(\.key) == ["a b+ü", "c"])
        #expect(page.objects[0].entityTag == "\"e1\"" && page.objects[0].size == 17)
        #expect(page.objects[0].modified.seconds == 1_369_353_600 && page.objects[1].entityTag == nil)
        #expect(page.commonPrefixes == ["d/"])
    }

    @Test func keysAreTakenAsTheyAreWithoutURLEncoding() throws {
        let page = try parse(
            "<ListBucketResult><Contents><Key>a+%20b</Key><Size>1</Size></Contents></ListBucketResult>")
        #expect(page.objects[0].key == "a+%20b" && !page.isTruncated)
    }

    @Test func everyTruncationIsAnError() {
        let bytes = Array(Self.listing.utf8)
        for end in 0..<bytes.count {
            #expect(throws: StoreError.self, "cut after \(end) bytes") {
                try parse(String(decoding: bytes[..<end], as: UTF8.self))
            }
        }
    }

    @Test(arguments: [
        "<!DOCTYPE lolz [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;\">]>"
            + "<ListBucketResult><Name>&b;</Name></ListBucketResult>",
        "<!DOCTYPE x SYSTEM \"file:///etc/passwd\"><ListBucketResult/>",
        "<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><ListBucketResult><Name>&e;</Name></ListBucketResult>",
        "<ListBucketResult><Name>&undeclared;</Name></ListBucketResult>",
        "<ListBucketResult><a><b></a></b></ListBucketResult>",
        "<html><body>Sign in to the hotel's wireless network</body></html>",
        "", "not XML", "<ListBucketResult/><ListBucketResult/>",
        "<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><EncodingType>url</EncodingType>"
            + "<Contents><Key>%zz</Key><Size>1</Size></Contents></ListBucketResult>",
    ])
    func hostileOrBrokenDocumentsAreProtocolViolations(_ text: String) {
        #expect { try parse(text) } throws: { ($0 as? StoreError)?.kind == .protocolViolation }
    }

    @Test func depthTextAndSizeAreBounded() {
        let deep = String(repeating: "<a>", count: 10_000)
        let long = "<ListBucketResult><Name>" + String(repeating: "x", count: 100_000)
        let large = "<ListBucketResult>" + String(repeating: "<Name>x</Name>", count: 100_000)
        let many =
            "<ListBucketResult>" + String(repeating: "<Contents><Key>k</Key><Size>1</Size></Contents>", count: 10_001)
        for text in [deep, "<ListBucketResult>" + deep, long, large, many] {
            #expect { try parse(text, inPiecesOf: 4096) } throws: { ($0 as? StoreError)?.kind == .protocolViolation }
        }
    }

    @Test func noRandomDamageTraps() {
        var random = SeededGenerator(seed: 7)
        let original = Array(Self.listing.utf8)
        for _ in 0..<2000 {
            var bytes = original
            for _ in 0..<Int.random(in: 1...8, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            _ = try? parse(String(decoding: bytes, as: UTF8.self), inPiecesOf: 100)
        }
        #expect((try? parse(Self.listing)) != nil, "the parser still works")
    }

    @Test func errorDocuments() {
        let body = Array(
            "<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message><Region>eu-west-1</Region></Error>"
                .utf8)
        #expect(
            S3ErrorDocument(body)?.code == "AuthorizationHeaderMalformed"
                && S3ErrorDocument(body)?.region == "eu-west-1")
        for text in ["", "<html/>", "<Error/>", "<Error><Code>x", "<NotError><Code>x</Code></NotError>"] {
            #expect(S3ErrorDocument(Array(text.utf8)) == nil, "\(text)")
        }
    }
}

import Platform
import Testing
import UnderStores

@Suite struct SigV4 {
    @Test("AWS's signing test suite", arguments: SigningVector.all)
    func testSuite(_ vector: SigningVector) {
        let signer = SigV4Signer(
            credentials: AWSCredentials(
                accessKeyID: "AKIDEXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
                source: "test"),
            region: "us-east-1", service: "service", time: CivilTime(FileTime(seconds: 1_440_938_160)),
            pathRule: vector.isNormalized ? .normalized : .verbatim)
        var headers = vector.headers.map { (name: $0.0, value: $0.1) }
        headers += [("Host", "example.amazonaws.com"), ("X-Amz-Date", "20150830T123600Z")]
        if let token = vector.token { headers.append(("X-Amz-Security-Token", token)) }
        var hash = SigV4Signer.emptyPayloadHash
        if let body = vector.body {
            hash = SigV4Signer.hash(ofPayload: Array(body.utf8))
            headers.append(("x-amz-content-sha256", hash))
        }
        let path = vector.isNormalized ? vector.path : PercentEncoding.encode(vector.path.utf8, keepsSlashes: true)
        let authorization = signer.authorization(
            SigV4Signer.Input(
                method: vector.method, path: path, query: vector.query.map { ($0.0, $0.1) }, headers: headers,
                payloadHash: hash))
        #expect(authorization.hasSuffix("Signature=\(vector.signature)"))
    }

    /// "Examples: Signature Calculations", Authenticating Requests: Using the Authorization Header, Amazon S3 API
    /// Reference.
    private func sign(
        _ method: String, _ path: String, query: [(name: String, value: String)] = [],
        headers: [(name: String, value: String)] = [], payloadHash: String = SigV4Signer.emptyPayloadHash
    ) -> String {
        let signer = SigV4Signer(
            credentials: AWSCredentials(
                accessKeyID: "AKIAIOSFODNN7EXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                source: "test"),
            region: "us-east-1", service: "s3", time: CivilTime(FileTime(seconds: 1_369_353_600)))
        return signer.authorization(
            SigV4Signer.Input(
                method: method, path: path, query: query,
                headers: headers + [
                    ("Host", "examplebucket.s3.amazonaws.com"), ("x-amz-date", "20130524T000000Z"),
                    ("x-amz-content-sha256", payloadHash),
                ], payloadHash: payloadHash))
    }

    @Test func documentedGetObject() {
        #expect(
            sign("GET", "/test.txt", headers: [("Range", "bytes=0-9")])
                == "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
                + "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
                + "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")
    }

    @Test func documentedPutObject() {
        let authorization = sign(
            "PUT", "/test%24file.text",
            headers: [("Date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
            payloadHash: SigV4Signer.hash(ofPayload: Array("Welcome to Amazon S3.".utf8)))
        #expect(authorization.hasSuffix("98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"))
    }

    @Test func documentedSubresourceWithoutValue() {
        let authorization = sign("GET", "/", query: [("lifecycle", "")])
        #expect(authorization.hasSuffix("fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"))
    }

    @Test func documentedListObjects() {
        let authorization = sign("GET", "/", query: [("prefix", "J"), ("max-keys", "2")])
        #expect(authorization.hasSuffix("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"))
    }

    @Test func queryIsSortedByItsEncodedBytes() {
        let query = [
            (name: "b", value: "1"), (name: "a", value: "ü"), (name: "a", value: "Z"), (name: "A", value: "+ /"),
        ]
        #expect(SigV4Signer.canonicalQuery(query) == "A=%2B%20%2F&a=%C3%BC&a=Z&b=1")
    }

    @Test func credentialsAreNeverPrinted() {
        let credentials = AWSCredentials(
            accessKeyID: "AKIA", secretAccessKey: "geheim", sessionToken: "zeichen", source: "environment")
        var dumped = ""
        dump(credentials, to: &dumped)
        for text in ["\(credentials)", String(reflecting: credentials), dumped, "\([credentials])"] {
            #expect(!text.contains("geheim") && !text.contains("zeichen") && text.contains("environment"))
        }
    }
}

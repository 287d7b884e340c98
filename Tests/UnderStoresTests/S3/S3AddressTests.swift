import Testing
import UnderStores

@Suite struct S3Addresses {
    private func endpoint(
        _ bucket: String, endpoint: String? = nil, style: S3Configuration.PathStyle = .auto,
        region: String = "eu-west-1"
    ) throws -> S3Endpoint {
        var configuration = try S3Configuration(bucket: bucket)
        configuration.endpoint = endpoint
        configuration.pathStyle = style
        return try S3Endpoint(configuration, region: region)
    }

    @Test func awsUsesVirtualHostsUnlessTheNameHasDots() throws {
        #expect(try endpoint("lake").origin == "https://lake.s3.eu-west-1.amazonaws.com")
        #expect(try endpoint("lake").path(key: "a b") == "/a%20b")
        #expect(try endpoint("my.lake").origin == "https://s3.eu-west-1.amazonaws.com")
        #expect(try endpoint("my.lake").path(key: "k") == "/my.lake/k")
        #expect(try endpoint("lake", region: "cn-north-1").origin == "https://lake.s3.cn-north-1.amazonaws.com.cn")
        #expect(try endpoint("Old_Bucket").path(key: nil) == "/Old_Bucket/")
    }

    @Test func customEndpointsUsePathsUnlessTold() throws {
        #expect(try endpoint("lake", endpoint: "http://host:9000/").origin == "http://host:9000")
        #expect(try endpoint("lake", endpoint: "http://host:9000").path(key: "k") == "/lake/k")
        #expect(try endpoint("lake", endpoint: "https://host", style: .off).origin == "https://lake.host")
        #expect(try endpoint("lake", style: .on).path(key: nil) == "/lake/")
    }

    @Test func defaultPortIsNoPartOfTheHostHeader() throws {
        #expect(try endpoint("b", endpoint: "http://Host:80").authority == "host")
        #expect(try endpoint("b", endpoint: "https://host:443").authority == "host")
        #expect(try endpoint("b", endpoint: "https://host:80").authority == "host:80")
    }

    @Test(arguments: [
        "host", "ftp://host", "http://", "http://host/path", "http://user@host", "http://a b", "http://h?q",
    ])
    func unusableEndpointsAreRefused(_ text: String) throws {
        #expect { try endpoint("b", endpoint: text) } throws: { ($0 as? StoreError)?.kind == .invalid }
    }

    @Test func urlsBecomeBucketAndPrefix() throws {
        #expect(try S3Configuration(url: "s3://lake").prefix == "")
        #expect(try S3Configuration(url: "s3://lake/").prefix == "")
        #expect(try S3Configuration(url: "s3://lake/a/b").prefix == "a/b/")
        #expect(try S3Configuration(url: "s3://lake//a//b//").prefix == "a/b/")
        #expect(try S3Configuration(url: "s3://lake/ü x").prefix == "ü x/")
    }

    @Test(arguments: [
        "s3://", "s3:///a", "http://x/y", "s3://a/../b", "s3://a/./b", "s3://..", "s3://a b", "s3://a?b", "s3://a@b/c",
    ])
    func unusableURLsAreRefused(_ url: String) {
        #expect { try S3Configuration(url: url) } throws: { ($0 as? StoreError)?.kind == .invalid }
    }

    @Test func customerKeyMustBe32BytesAndIsNeverPrinted() throws {
        let base64 = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
        var configuration = try S3Configuration(bucket: "b")
        configuration.sseCustomerKey = try SSECustomerKey(base64: base64)
        var dumped = ""
        dump(configuration, to: &dumped)
        #expect(!dumped.contains(base64) && !"\(configuration)".contains(base64))
        for bad in ["", "AAAA", "not base64", base64 + "AAAA"] {
            #expect { try SSECustomerKey(base64: bad) } throws: { !"\($0)".contains("AAAA") && $0 is StoreError }
        }
    }
}

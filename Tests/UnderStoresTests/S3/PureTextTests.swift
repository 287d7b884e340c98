import Platform
import TestSupport
import Testing
import UnderStores

@Suite struct PercentEncodingAndTimes {
    @Test func everyByteSurvivesFormEncoding() {
        let all = (0...255).map { UInt8($0) }
        let encoded = PercentEncoding.encode(all, keepsSlashes: false)
        #expect(PercentEncoding.decodeForm(Array(encoded.utf8)) == all)
        #expect(PercentEncoding.decodeForm(Array("a+b%2Bc%2f".utf8)) == Array("a b+c/".utf8))
    }

    @Test(arguments: ["%", "%4", "%zz", "abc%", "%+1"])
    func brokenEncodingIsRefused(_ text: String) {
        #expect(PercentEncoding.decodeForm(Array(text.utf8)) == nil)
    }

    @Test func slashesStayInPathsOnly() {
        #expect(PercentEncoding.encode("a b/ü~".utf8, keepsSlashes: true) == "a%20b/%C3%BC~")
        #expect(PercentEncoding.encode("a/b".utf8, keepsSlashes: false) == "a%2Fb")
    }

    @Test func datesAreWrittenAndReadInEveryForm() throws {
        let time = CivilTime(FileTime(seconds: 1_369_353_600))
        #expect(time.basicDateTime == "20130524T000000Z")
        #expect(time.httpDate == "Fri, 24 May 2013 00:00:00 GMT")
        #expect(CivilTime(httpDate: "Fri, 24 May 2013 00:00:00 GMT") == time)
        #expect(CivilTime(iso8601: "2013-05-24T00:00:00.999Z") == time)
        #expect(CivilTime(iso8601: "2013-05-24T00:00:00Z")?.fileTime.seconds == 1_369_353_600)
    }

    @Test func everyDayFor800YearsIsReadBack() throws {
        for day in Int64(-135_140)..<157_060 {  // 1600 to 2400
            let time = FileTime(seconds: day * 86_400 + 4711)
            let civil = CivilTime(time)
            try #require(civil.fileTime == time, "day \(day)")
            if day % 97 == 0 { #expect(CivilTime(httpDate: civil.httpDate)?.fileTime == time) }
        }
    }

    @Test(arguments: [
        "", "Fri, 24 May 2013", "Fri, 24 Mai 2013 00:00:00 GMT", "x, 99 May 2013 00:00:00 GMT", "1 2 3 4 5 6",
    ])
    func malformedHTTPDateIsNoDate(_ text: String) {
        #expect(CivilTime(httpDate: text) == nil)
    }

    @Test(arguments: [
        "", "2013-05-24", "2013-13-24T00:00:00Z", "2013-05-24T00:00:00", "-2013-05-24T00:00:00Z",
        "zzzz-05-24T00:00:00Z",
    ])
    func malformedISODateIsNoDate(_ text: String) {
        #expect(CivilTime(iso8601: text) == nil)
    }

    @Test func contentRange() {
        #expect(ContentRange("bytes 0-499/1234")?.range == 0..<500)
        #expect(ContentRange("bytes 0-499/1234")?.size == 1234)
        #expect(ContentRange("bytes 7-7/*")?.size == nil)
        for text in [
            "", "bytes", "bytes 5-4/10", "bytes 0-10/10", "bytes */10", "bytes 0-/10", "items 0-1/2", "bytes 0-1",
            "bytes 0-18446744073709551615/*",
        ] {
            #expect(ContentRange(text) == nil, "\(text)")
        }
    }
}

@Suite struct ObjectMetadataText {
    private func attributes(_ fields: [(name: String, value: String)]) -> ObjectAttributes? {
        ObjectMetadata.attributes(of: HTTPHeaders([("Content-Length", "10"), ("ETag", "\"e\"")] + fields))
    }

    @Test(
        arguments: [
            ("33188", 0o644), ("493", 0o755), ("33261", 0o755), ("100644", 0o644), ("0644", 0o644), ("644", 0o644),
            ("100755", 0o755),
            ("0100600", 0o600), ("1777", 0o1777),
        ] as [(String, UInt32)])
    func modeOfS3fsAndRclone(_ text: String, _ permissions: UInt32) {
        let found = attributes([("x-amz-meta-mode", text)])
        #expect(found?.permissions == permissions && found?.kind == .file)
    }

    @Test func symbolicLinkOfS3fs() {
        #expect(attributes([("x-amz-meta-mode", "41471")])?.kind == .symbolicLink)
        #expect(attributes([("x-amz-meta-mode", "120777")])?.kind == .symbolicLink)
    }

    @Test func ownerAndTimes() {
        let found = attributes([
            ("x-amz-meta-uid", "1000"), ("x-amz-meta-gid", "100"), ("x-amz-meta-mtime", "1500000000.25"),
            ("Last-Modified", "Fri, 24 May 2013 00:00:00 GMT"),
        ])
        #expect(found?.uid == 1000 && found?.gid == 100)
        #expect(found?.modified == FileTime(seconds: 1_500_000_000, nanoseconds: 250_000_000))
        let dated = attributes([("x-amz-meta-mtime", "2017-07-14T02:40:00.5Z")])
        #expect(dated?.modified == FileTime(seconds: 1_500_000_000, nanoseconds: 500_000_000))
    }

    @Test(arguments: ["", "x", "-1", "99999999999", "12989", "0o644"])
    func nonsenseModeIsIgnored(_ text: String) {
        #expect(attributes([("x-amz-meta-mode", text)])?.permissions == nil)
    }

    @Test func nonsenseTimesAndOwnersFallBack() {
        let found = attributes([
            ("x-amz-meta-mtime", "yesterday"), ("x-amz-meta-uid", "-3"),
            ("Last-Modified", "Fri, 24 May 2013 00:00:00 GMT"),
        ])
        #expect(found?.modified.seconds == 1_369_353_600 && found?.uid == nil)
    }

    @Test func emptyDirectoryObjectIsADirectory() {
        let headers = HTTPHeaders([
            ("content-length", "0"), ("Content-Type", "application/x-directory"), ("ETag", "\"d\""),
        ])
        #expect(ObjectMetadata.attributes(of: headers)?.kind == .directory)
    }

    @Test func versionsOfListingAndLookupAreOneText() {
        let time = FileTime(seconds: 1_369_353_600)
        func version(_ tag: String?) -> ObjectVersion { ObjectMetadata.version(tag: tag, modified: time, size: 10) }
        #expect(version("\"abc\"") == version("abc"))
        #expect(version("W/\"abc\"").bytes == "W/\"abc\"")
        #expect(version(nil) == version(""))
        #expect(version(nil) != ObjectMetadata.version(tag: nil, modified: time, size: 11))
        #expect(ObjectMetadata.condition(version("abc")) == ("If-Match", "\"abc\""))
        #expect(ObjectMetadata.condition(version(nil)) == ("If-Unmodified-Since", "Fri, 24 May 2013 00:00:00 GMT"))
    }
}

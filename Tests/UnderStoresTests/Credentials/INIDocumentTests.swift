import Platform
import Testing

@testable import UnderStores

@Suite("INIDocument")
struct INIDocumentTests {
    private func parse(_ text: String, opening: String? = nil) throws -> INIDocument {
        try INIDocument(Array(text.utf8), openingSection: opening)
    }

    @Test("sections, settings, comments and white space")
    func basics() throws {
        let document = try parse(
            "# first\n; second\n[default]\nregion = eu-west-1  \n\tKey=a=b\n\n[ profile   lake ] # why\nx = 1 # not this\ny = a#b;c\nz=\n"
        )
        #expect(document.sections.map(\.name) == ["default", "profile lake"])
        #expect(document[section: "default"]?["region"] == "eu-west-1\nKey=a=b")
        let lake = document[section: "profile lake"]
        #expect(lake?["x"] == "1" && lake?["y"] == "a#b;c" && lake?["z"] == nil)
    }

    @Test("names of settings are found in lower case, the last of a name counts, and sections of one name are one")
    func merging() throws {
        let document = try parse("[a]\nRegion=1\nregion=2\n[b]\n[a]\nother=3\n")
        #expect(document.sections.count == 2)
        #expect(document[section: "a"]?["region"] == "2" && document[section: "a"]?["other"] == "3")
    }

    @Test("nested blocks belong to the setting above them and are no settings of the section")
    func nested() throws {
        let document = try parse(
            "[default]\ns3 =\n  max_concurrent_requests = 20\n  endpoint_url=http://x:1/\nregion = r\n")
        let section = try #require(document[section: "default"])
        #expect(section.properties["s3"]?.nested == ["max_concurrent_requests": "20", "endpoint_url": "http://x:1/"])
        #expect(section["endpoint_url"] == nil && section["region"] == "r")
    }

    @Test("carriage returns, a byte order mark and quoted names do no harm")
    func editors() throws {
        let document = try parse("\u{FEFF}[profile \"my lake\"]\r\nregion = a\r\n\r\n")
        #expect(document[section: "profile my lake"]?["region"] == "a")
    }

    @Test(
        "a malformed line is named by number, and its content is not repeated",
        arguments: [
            ("[a]\nx = 1\nsecret-without-equals\n", 3), ("[a\n", 1), ("\n\nx = 1\n", 3), ("[a]\n = secret\n", 2),
            ("[]\n", 1), ("[a] secret\n", 1), ("[a]\ns3 =\n  secret\n", 3),
        ])
    func malformed(text: String, line: Int) {
        let error = #expect(throws: INIDocument.Malformed.self) { try parse(text) }
        #expect(error?.line == line)
        #expect(error?.description.contains("secret") == false)
    }

    @Test("settings before any section belong to the opening section, if there is one")
    func opening() throws {
        #expect(try parse("x = 1\n", opening: "default")[section: "default"]?["x"] == "1")
    }

    @Test("any bytes are parsed or refused, never a trap")
    func anyBytes() {
        var state: UInt64 = 88172645463325252
        let alphabet = Array("[]=#; \t\r\nab\"".utf8) + [0, 0xFF, 0xC3]
        for _ in 0..<3000 {
            var bytes: [UInt8] = []
            for _ in 0..<24 {
                state ^= state << 13
                state ^= state >> 7
                state ^= state << 17
                bytes.append(alphabet[Int(state % UInt64(alphabet.count))])
            }
            _ = try? INIDocument(bytes, openingSection: state & 1 == 0 ? "s" : nil)
        }
    }

    @Test(
        "timestamps",
        arguments: [
            ("2026-11-22T12:00:00Z", 1_795_348_800), ("2026-11-22T12:00:00.123456Z", 1_795_348_800),
            ("2026-11-22T12:00:00+00:00", 1_795_348_800), ("2026-11-22T14:00:00+02:00", 1_795_348_800),
            ("2026-11-22T06:30:00-0530", 1_795_348_800), ("2024-02-29T00:00:00Z", 1_709_164_800),
            ("1970-01-01T00:00:00Z", 0),
        ] as [(String, Int64)])
    func timestamps(text: String, seconds: Int64) {
        #expect(FileTime(timestamp: text)?.seconds == seconds)
    }

    @Test(
        "what is no timestamp is none",
        arguments: [
            "", "2026-11-22", "2026-11-22T12:00:00", "2026-13-22T12:00:00Z", "2026-11-22T25:00:00Z",
            "tomorrow at noon, UTC",
            "2026-11-22T12:00:00+0x:00", "2026-11-22T12:00:00+99:99",
        ])
    func noTimestamps(text: String) { #expect(FileTime(timestamp: text) == nil) }
}

import Platform
import Testing

@Suite("ByteString")
struct ByteStringTests {
    @Test("texts that Swift takes for equal are different names")
    func canonicalEquivalence() {
        let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}")
        #expect(composed == decomposed)
        #expect(ByteString(composed) != ByteString(decomposed))
        #expect(Set([ByteString(composed), ByteString(decomposed)]).count == 2)
    }

    @Test("the order is that of bytes")
    func order() {
        let sorted: [ByteString] = ["", "A", "Z", "a", "a!", "a/b", "a0", "aa", "\u{e9}", "\u{FFFD}", "\u{1F600}"]
        #expect(sorted.shuffled().sorted() == sorted)
        #expect(ByteString([0x7F]) < ByteString([0x80]) && ByteString([0xFF]) > "\u{1F600}")
    }

    @Test(
        "names that a directory can have",
        arguments: [
            ("a", true), ("...", true), (" ", true), ("\u{e9}", true), ("", false), (".", false), ("..", false),
            ("a/b", false), ("/", false), ("a\0", false),
        ])
    func nameable(text: String, isNameable: Bool) { #expect(ByteString(text).isNameable == isNameable) }

    @Test("names are bounded in bytes, not in characters")
    func longNames() {
        #expect(ByteString(String(repeating: "n", count: 255)).isNameable)
        #expect(!ByteString(String(repeating: "n", count: 256)).isNameable)
        #expect(!ByteString(String(repeating: "\u{e9}", count: 128)).isNameable)
        #expect(ByteString([0xFF, 0xFE]).isNameable)
    }

    @Test("prefixes, suffixes, parts and paths")
    func parts() {
        let path: ByteString = "a/bc/d"
        #expect(path.hasPrefix("a/b") && path.hasPrefix("") && !path.hasPrefix("a/c") && !path.hasPrefix("a/bc/de"))
        #expect(path.hasSuffix("/d") && path.hasSuffix("") && !path.hasSuffix("a/bc/dd"))
        #expect(path.components == ["a", "bc", "d"])
        #expect(ByteString("/a//b/").components == ["a", "b"])
        #expect(ByteString("").appending(component: "x") == "x" && path.appending(component: "e") == "a/bc/d/e")
        #expect("a" + path == "aa/bc/d")
    }

    @Test("C strings come and go byte for byte")
    func cStrings() {
        let name = ByteString([0x61, 0xFF, 0x20])
        #expect(name.withCString { ByteString(cString: $0) } == name)
        #expect(ByteString("").withCString { $0.pointee } == 0)
    }
}

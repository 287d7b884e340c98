import Commands
import Logging
import Platform
import Testing

@Suite struct LogTests {
    private func lines(_ level: Logger.Level = .info, _ body: (inout Logger) -> Void) -> String {
        let printed = Printed()
        var logger = Logger(label: "test") { _ in
            LineLogHandler(
                level: level, write: printed.output().note,
                now: { FileTime(seconds: 1_795_370_400, nanoseconds: 123_000_000) })
        }
        body(&logger)
        return printed.notes
    }

    @Test func aLineIsTimeLevelMessageAndSortedMetadata() {
        let text = lines { logger in
            logger[metadataKey: "mount"] = "/mnt/lake"
            logger.warning("store is slow", metadata: ["url": "s3://b/x y", "attempt": "2"])
            logger.debug("not shown")
        }
        #expect(text == "2026-11-22T18:00:00.123Z warning store is slow attempt=2 mount=/mnt/lake url=\"s3://b/x y\"\n")
    }

    @Test func whatComesFromOutsideCannotStartANewLine() {
        let text = lines { $0.info("key a\nb", metadata: ["name": "x\n2026 error forged", "quoted": "a\"b"]) }
        #expect(
            text == "2026-11-22T18:00:00.123Z info key a\\x0ab name=\"x\\x0a2026 error forged\" quoted=\"a\\\"b\"\n")
    }

    @Test func levelsAreWords() throws {
        #expect(try LogLevel(parsing: "WARN").level == .warning)
        #expect(throws: CommandFailure.self) { try LogLevel(parsing: "verbose") }
    }
}

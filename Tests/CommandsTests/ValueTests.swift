import Commands
import Platform
import Testing

@Suite struct SizeTests {
    @Test(arguments: [
        ("0", 0), ("4096", 4096), ("64k", 65536), ("64K", 65536), ("100GiB", 107_374_182_400),
        ("100 gib", 107_374_182_400),
        ("1.5 GB", 1_500_000_000), ("1.5GiB", 1_610_612_736), ("1kB", 1000), ("2M", 2_097_152),
        ("3 TB", 3_000_000_000_000),
        ("10 B", 10), ("7EiB", 8_070_450_532_247_928_832), ("9223372036854775807", UInt64(Int64.max)),
        (" 5m ", 5_242_880),
    ])
    func sizesArePowersOf1024UnlessWrittenWithB(text: String, bytes: UInt64) throws {
        #expect(try ByteSize.parse(text) == bytes)
    }

    @Test(arguments: [
        "", "GiB", "-1", "1.2.3GB", "5 parsecs", "1e3", "0x10", "8EiB", "99999999999999999999", "1 KiBB", "١٢",
    ])
    func whatIsNoSizeIsRefused(text: String) {
        let failure = failure { _ = try ByteSize.parse(text) }
        #expect(failure.code == 64)
        #expect(failure.message.contains("\"\(text)\""))
    }

    @Test(arguments: [
        (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (1_610_612_736, "1.5 GiB"),
        (1_048_575, "1.0 MiB"), (107_374_182_400, "100 GiB"), (UInt64.max, "16.0 EiB"), (1_072_693_248, "1023 MiB"),
    ])
    func sizesAreShownWithAtMostOneDecimal(bytes: UInt64, text: String) { #expect(ByteSize.format(bytes) == text) }

    @Test(arguments: [0, 1, 1000, 1024, 1 << 20, 3 << 29, UInt64(Int64.max), 1 << 62])
    func theExactFormIsReadBack(bytes: UInt64) throws {
        #expect(try ByteSize.parse(ByteSize.formatExactly(bytes)) == bytes)
    }
}

@Suite struct DurationTests {
    @Test(arguments: [
        ("0", 0), ("60s", 60_000), ("5m", 300_000), ("500ms", 500), ("1h30m", 5_400_000), ("1d", 86_400_000),
        ("30", 30_000), ("1.5s", 1500), ("2M", 120_000), ("0s", 0),
    ])
    func durationsAreMilliseconds(text: String, milliseconds: UInt32) throws {
        #expect(try TimeSpan.parse(text) == milliseconds)
    }

    @Test(arguments: ["", "s", "-5s", "5 minutes", "1h30", "forever", "50d", "5s!", "1..5s"])
    func whatIsNoDurationIsRefused(text: String) {
        let failure = failure { _ = try TimeSpan.parse(text) }
        #expect(failure.code == 64)
        #expect(failure.message.contains("\"\(text)\""))
    }

    @Test(arguments: [
        (0.25, "250 ms"), (1, "1 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3725, "1 h 02 min"), (90_000, "1 d 01 h"),
        (Double.infinity, "?"),
    ])
    func timesAreShownInTwoUnits(seconds: Double, text: String) { #expect(TimeSpan.format(seconds: seconds) == text) }
}

@Suite struct TimestampTests {
    @Test func timesAreShownInUTC() {
        #expect(
            Timestamp.utc(FileTime(seconds: 1_795_370_400, nanoseconds: 7_000_000), fraction: true)
                == "2026-11-22T18:00:00.007Z")
        #expect(Timestamp.utc(FileTime(seconds: -1)) == "1969-12-31T23:59:59Z")
    }
}

import Commands
import Coordination
import Glibc
import Platform
import Testing

@Suite struct LoadProgressTests {
    private func progress(_ done: UInt64, of total: UInt64?, failures: UInt64 = 0, end: Bool = false) -> WireProgress {
        var progress = WireProgress()
        progress.bytesDone = done << 20
        progress.bytesTotal = (total ?? 0) << 20
        progress.totalKnown = total != nil
        progress.filesDone = done / 10
        progress.filesTotal = (total ?? 0) / 10
        progress.failures = failures
        progress.end = end
        return progress
    }

    @Test func theBarShowsShareRateAndTimeLeft() {
        var display = LoadProgress(style: .bar(columns: 100))
        _ = display.update(progress(0, of: 1000), at: 0)
        let text = display.update(progress(250, of: 1000), at: 2.5)
        #expect(
            text
                == "\r[=======>                      ]  25%  250 MiB of 1000 MiB, 25 of 100 files, 100 MiB/s, 8 s left\u{1b}[K"
        )
    }

    @Test(arguments: [10, 20, 40, 60, 80, 100, 200])
    func theBarFitsItsTerminal(columns: Int) throws {
        var display = LoadProgress(style: .bar(columns: columns))
        _ = display.update(progress(0, of: 1000), at: 0)
        let drawn = display.update(progress(999, of: 1000, failures: 12), at: 60)
        let text = try #require(drawn)
        let visible = text.replacing("\r", with: "").replacing("\u{1b}[K", with: "")
        #expect(visible.count < columns)
    }

    @Test func withoutATotalThereIsNoBarAndNoETA() {
        var display = LoadProgress(style: .bar(columns: 80))
        _ = display.update(progress(0, of: nil), at: 0)
        let text1 = display.update(progress(100, of: nil), at: 1)
        #expect(text1 == "\r100 MiB, 10 files, 100 MiB/s\u{1b}[K")
    }

    @Test func aBarIsDrawnAtMostTenTimesASecond() {
        var display = LoadProgress(style: .bar(columns: 80))
        var drawn = 0
        for step in 0..<1000 where display.update(progress(UInt64(step), of: 1000), at: Double(step) / 1000) != nil {
            drawn += 1
        }
        #expect((2...11).contains(drawn))
    }

    @Test func linesComeEveryFiveSecondsAndNotAtTheEnd() {
        var display = LoadProgress(style: .lines)
        let text0 = display.update(progress(0, of: 100), at: 0)
        #expect(text0 == "0 B of 100 MiB, 0 of 10 files\n")
        let text1 = display.update(progress(10, of: 100), at: 1)
        #expect(text1 == nil)
        let text5 = display.update(progress(50, of: 100), at: 5)
        #expect(text5?.contains("50.0 MiB of 100 MiB, 5 of 10 files") == true)
        let text6 = display.update(progress(100, of: 100, end: true), at: 6)
        #expect(text6 == nil)
    }

    @Test func moreBytesThanAnnouncedAreStillAtMostAllOfThem() throws {
        var display = LoadProgress(style: .bar(columns: 120))
        _ = display.update(progress(0, of: 100), at: 0)
        let drawn = display.update(progress(150, of: 100), at: 1)
        let text = try #require(drawn)
        #expect(text.contains("100%"))
    }
}

@Suite struct LoadCommandTests {
    private static func steps(failures: UInt64) -> [WireProgress] {
        (1...3).map { step in
            var progress = WireProgress()
            progress.filesDone = UInt64(step)
            progress.bytesDone = UInt64(step) << 20
            progress.end = step == 3
            progress.failures = step == 3 ? failures : 0
            progress.lastError = failures > 0 ? "access denied" : ""
            return progress
        }
    }

    @Test func aLoadFollowsItsProgressToTheEnd() async throws {
        let fake = try FakeCoordinator { body, session in
            guard case .load(let request) = body, request.inode == 7, request.parallel == 4 else {
                return session.fail(EINVAL, "not that")
            }
            for step in Self.steps(failures: 0) { session.reply(.progress(step)) }
        }
        let target = fake.target()
        let (json, text) = try await onThread { () -> (String, String) in
            let json = Printed()
            try Loading(targets: [target], parallel: 4, json: true).run(json.output(), stop: OneShot())
            let text = Printed()
            try Loading(targets: [target], parallel: 4, json: false).run(
                text.output(terminalColumns: 80), stop: OneShot())
            #expect(text.notes.hasSuffix("\r\u{1b}[K"), "the bar is wiped at the end")
            return (json.data, text.data)
        }
        #expect(
            json == """
                [
                  {
                    "bytes" : 3145728,
                    "failures" : 0,
                    "files" : 3,
                    "path" : "/mnt/lake"
                  }
                ]

                """)
        #expect(text.hasPrefix("/mnt/lake: loaded 3 files, 3.0 MiB in "))
    }

    @Test func filesThatFailMakeTheCommandFail() async throws {
        let fake = try FakeCoordinator { _, session in
            for step in Self.steps(failures: 2) { session.reply(.progress(step)) }
        }
        let failure = await failureOnThread {
            try Loading(targets: [fake.target()], parallel: 0, json: false).run(Printed().output(), stop: OneShot())
        }
        #expect(failure.code == 74)
        #expect(failure.message.contains("2 files") && failure.message.contains("access denied"))
    }

    @Test func aStopEndsTheSessionSoThatTheCoordinatorStops() async throws {
        let stop = OneShot<Void>()
        let fake = try FakeCoordinator { _, session in
            session.reply(.progress(Self.steps(failures: 0)[0]))
            stop.set(())
        }
        let failure = await failureOnThread {
            try Loading(targets: [fake.target()], parallel: 0, json: false).run(Printed().output(), stop: stop)
        }
        #expect(failure.code == 130)
        let closed = try await onThread { fake.firstClosed.wait(timeout: .seconds(30)) != nil }
        #expect(closed)
    }

    @Test func aCoordinatorThatDiesIsAnError() async throws {
        let fake = try FakeCoordinator { _, session in session.session.disconnect() }
        let failure = await failureOnThread {
            try Loading(targets: [fake.target()], parallel: 0, json: false).run(Printed().output(), stop: OneShot())
        }
        #expect(failure.code == 69)
        #expect(failure.message.contains("closed the connection"))
    }
}

import Commands
import Coordination
import Platform
import Testing

@Suite struct WritingCommandTests {
    @Test func aFlushSaysWhatWasUploaded() async throws {
        let fake = try FakeCoordinator { body, session in
            guard case .flush(let request) = body else { return session.fail(95, "only flush") }
            var progress = WireProgress()
            progress.end = true
            progress.filesDone = request.inode
            progress.bytesDone = 2048
            session.reply(.progress(progress))
        }
        let target = fake.target("/mnt/lake", inode: 3)
        let text = try await onThread { () -> String in
            let printed = Printed()
            try Flushing(targets: [target], json: false).run(printed.output())
            return printed.data
        }
        #expect(text == "/mnt/lake: uploaded 3 files, 2.0 KiB\n")
    }

    @Test func whatCannotBeUploadedIsAnErrorThatSaysItIsKept() async throws {
        let fake = try FakeCoordinator { _, session in
            var progress = WireProgress()
            progress.end = true
            progress.failures = 2
            progress.lastError = "the store is away"
            session.reply(.progress(progress))
        }
        let target = fake.target("/mnt/lake", inode: 3)
        let failure = await failureOnThread {
            try Flushing(targets: [target], json: true).run(Printed().output())
        }
        #expect(failure.code == 74)
        #expect(failure.message.contains("are kept") && failure.message.contains("the store is away"))
    }

    @Test func conflictsAreListedWithTheirReason() async throws {
        let fake = try FakeCoordinator { body, session in
            guard case .listConflicts = body else { return session.fail(95, "only a list") }
            var conflict = WireConflicts.Conflict()
            conflict.number = 7
            conflict.url = "s3://bucket/a"
            conflict.bytes = 10
            conflict.reason = "the object was replaced"
            var answer = WireConflicts()
            answer.conflicts = [conflict]
            session.reply(.conflicts(answer))
        }
        let socket = fake.socket
        let reports = try await onThread { try Conflicts.list(ControlSession(socket: socket)) }
        #expect(
            Conflicts.text(reports) == """
                NUMBER  OBJECT         SIZE  WHY
                     7  s3://bucket/a  10 B  the object was replaced

                """)
        #expect(Conflicts.text([]) == "no conflicts\n")
    }

    @Test func aConflictIsRestoredWhereItWasAskedFor() async throws {
        let seen = Lock<WireResolveConflict?>(nil)
        let fake = try FakeCoordinator { body, session in
            guard case .resolveConflict(let request) = body else { return session.fail(95, "only that") }
            seen.withLock { $0 = request }
            session.reply(.done(.init()))
        }
        let socket = fake.socket
        try await onThread { try Conflicts.resolve(7, restoring: true, to: "a/b", ControlSession(socket: socket)) }
        let request = seen.withLock { $0 }
        #expect(request?.number == 7 && request?.action == .restore && request?.path == "a/b")
    }
}

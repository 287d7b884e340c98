import Glibc
import Platform
import TestSupport
import Testing

/// What a file system does, checked on ext4 and on Larder's mounts alike. Needs root: many cases act as other users.
@Suite struct ConformanceTests {
    @Test(arguments: ConformanceTarget.all, ConformanceCase.opening)
    func open(target: ConformanceTarget, testCase: ConformanceCase) async throws { try await run(testCase, target) }

    @Test(arguments: ConformanceTarget.all, ConformanceCase.creating)
    func create(target: ConformanceTarget, testCase: ConformanceCase) async throws { try await run(testCase, target) }

    @Test(arguments: ConformanceTarget.all, ConformanceCase.removing)
    func remove(target: ConformanceTarget, testCase: ConformanceCase) async throws { try await run(testCase, target) }

    @Test(arguments: ConformanceTarget.all, ConformanceCase.renaming)
    func rename(target: ConformanceTarget, testCase: ConformanceCase) async throws { try await run(testCase, target) }

    @Test(arguments: ConformanceTarget.all, ConformanceCase.resizing)
    func resize(target: ConformanceTarget, testCase: ConformanceCase) async throws { try await run(testCase, target) }

    @Test(arguments: ConformanceTarget.all, ConformanceCase.owning)
    func own(target: ConformanceTarget, testCase: ConformanceCase) async throws { try await run(testCase, target) }

    @Test(arguments: ConformanceTarget.all, ConformanceCase.timing)
    func setTimes(target: ConformanceTarget, testCase: ConformanceCase) async throws { try await run(testCase, target) }

    @Test(arguments: ConformanceTarget.all, ConformanceCase.permitting)
    func permit(target: ConformanceTarget, testCase: ConformanceCase) async throws { try await run(testCase, target) }

    @Test(arguments: ConformanceTarget.all, ConformanceCase.refusing)
    func refuse(target: ConformanceTarget, testCase: ConformanceCase) async throws { try await run(testCase, target) }

    @Test(arguments: ConformanceTarget.all, ConformanceCase.naming)
    func name(target: ConformanceTarget, testCase: ConformanceCase) async throws { try await run(testCase, target) }

    @Test(arguments: ConformanceTarget.all, ConformanceCase.describing)
    func describe(target: ConformanceTarget, testCase: ConformanceCase) async throws { try await run(testCase, target) }

    @Test(arguments: ConformanceTarget.all, ConformanceCase.listing)
    func list(target: ConformanceTarget, testCase: ConformanceCase) async throws { try await run(testCase, target) }

    @Test(arguments: ConformanceTarget.all, ConformanceCase.transferring)
    func transfer(target: ConformanceTarget, testCase: ConformanceCase) async throws { try await run(testCase, target) }

    @Test(arguments: ConformanceTarget.all, ConformanceCase.locking)
    func lock(target: ConformanceTarget, testCase: ConformanceCase) async throws { try await run(testCase, target) }

    @Test(arguments: ConformanceTarget.all, ConformanceCase.lacking)
    func lack(target: ConformanceTarget, testCase: ConformanceCase) async throws { try await run(testCase, target) }

    @Test func everyDocumentedDifferenceIsOfACaseThatExists() {
        let names = Set(ConformanceCase.all.map(\.name))
        #expect(names.count == ConformanceCase.all.count, "two cases have one name")
        for difference in Difference.documented {
            #expect(names.contains(difference.testCase), "\(difference)")
        }
    }

    private func run(_ testCase: ConformanceCase, _ target: ConformanceTarget) async throws {
        let failures = try await testCase.run(on: target)
        #expect(failures.isEmpty, "\(target): \(testCase.name)\n\(failures.prefix(20).joined(separator: "\n"))")
    }
}

extension ConformanceCase {
    static let all =
        opening + creating + removing + renaming + resizing + owning + timing + permitting + refusing + naming
        + describing + listing + transferring + locking + lacking
}

@Suite struct FileExerciserTests {
    /// `$LARDER_EXERCISER_OPERATIONS` for each of the seeds, 1000 unless said.
    private static let operations = getenv("LARDER_EXERCISER_OPERATIONS").flatMap { Int(String(cString: $0)) } ?? 1000

    /// `$LARDER_EXERCISER_SEEDS`, separated by commas, instead of four.
    private static let seeds =
        getenv("LARDER_EXERCISER_SEEDS").map { String(cString: $0).split(separator: ",").compactMap { UInt64($0) } }
        ?? [1, 2, 3, 4]

    @Test(arguments: ConformanceTarget.all, seeds)
    func aFileHasTheBytesThatRandomOperationsGaveIt(target: ConformanceTarget, seed: UInt64) async throws {
        let system = try await target.exercisedFileSystem()
        let name = "exercised-\(seed)-\(MonotonicClock.now())"
        let path = "\(system.writable)/\(name)"
        try await onThread {
            var options = FileExerciser.Options()
            options.operations = Self.operations
            options.otherPaths = system.second.map { ["\($0)/\(name)"] } ?? []
            options.disturb = system.disturb
            var exerciser = try FileExerciser(path: path, seed: seed, options: options)
            defer { unlink(path) }
            do { try exerciser.run() } catch {
                let told = system.logs().split(separator: "\n").filter { !$0.contains(" info ") }
                Issue.record("\(error)\n\(told.suffix(30).joined(separator: "\n"))")
            }
        }
    }

    @Test func aByteThatChangesBehindIsNoticed() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("f")
        let failure = try await onThread { () -> String in
            var options = FileExerciser.Options()
            options.operations = 2000
            options.disturb = {
                guard let file = try? Descriptor.open(path, O_RDWR), let size = file.size, size > 0 else { return }
                _ = file.put([UInt8](repeating: 0xEE, count: size), at: 0)
            }
            var exerciser = try FileExerciser(path: path, seed: 5, options: options)
            do { try exerciser.run() } catch { return "\(error)" }
            return ""
        }
        #expect(failure.contains("wrong bytes") && failure.contains("seed 5; the last operations:"), "\(failure)")
    }
}

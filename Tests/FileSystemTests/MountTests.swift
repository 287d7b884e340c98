import Glibc
import Platform
import SystemPackage
import Testing

@testable import FileSystem
@testable import FuseBridge

@Suite("A kernel mount")
struct MountTests {
    @Test("lists, reads and follows links by every grant", arguments: [
        FakeGrant.passthrough, .whole, .mapped, .inline, .source, .readThrough,
    ])
    func readsEveryGrant(_ grant: FakeGrant) async throws {
        let coordinator = try FakeCoordinator()
        let bytes = pattern(grant == .inline ? 50_000 : 3_000_001)
        try coordinator.add("data", bytes, grant)
        let reference = coordinator.directory + "/reference"
        let file = try Descriptor.open(reference, O_WRONLY | O_CREAT)
        try bytes.withUnsafeBytes { try file.write($0, at: 0) }
        _ = coordinator.script.withLock { $0.tree.add("link", .link("data")) }
        let fixture = try await MountFixture.start(coordinator)
        let listed = try await fixture.shell("ls $M")
        #expect(listed.output == "data\nlink\n")
        let compared = try await fixture.shell("cmp \(reference) $M/data && cmp \(reference) $M/link && readlink $M/link")
        #expect(compared.code == 0 && compared.output == "data\n", "\(compared)")
        let middle = try await fixture.shell("cmp -i 12345 -n 777 \(reference) $M/data")
        #expect(middle.code == 0, "\(middle)")
    }
}

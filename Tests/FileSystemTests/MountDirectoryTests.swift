import Glibc
import Platform
import SystemPackage
import Testing

@testable import FileSystem

@Suite("Directories of a kernel mount")
struct MountDirectoryTests {
    private static func coordinator(_ count: Int, pageEntries: Int = 1000) throws -> FakeCoordinator {
        let coordinator = try FakeCoordinator()
        let (_, file) = try coordinator.add("name-template", [1, 2, 3], .inline)
        coordinator.script.withLock { script in
            script.pageEntries = pageEntries
            var tree = script.tree
            let directory = tree.add("many", .directory)
            for number in 0..<count {
                _ = tree.add(ByteString("name-\(1_000_000 + number)"), .file(file), in: directory)
            }
            script.tree = tree
        }
        return coordinator
    }

    /// readdir(3) and telldir(3), which Python does not offer.
    private static let directoryCalls = """
        import ctypes, random, sys
        libc = ctypes.CDLL(None)
        libc.opendir.restype = ctypes.c_void_p
        libc.readdir.restype = ctypes.c_void_p
        libc.telldir.restype = ctypes.c_long
        for name in ("readdir", "telldir", "rewinddir", "closedir"): getattr(libc, name).argtypes = [ctypes.c_void_p]
        libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
        d = libc.opendir((M + "/many").encode())
        def tell(): return libc.telldir(d)
        def next():
            entry = libc.readdir(d)
            return ctypes.string_at(entry + 19).decode() if entry else None  # d_name of struct dirent on 64-bit Linux
        def rest():
            names = []
            while (name := next()) is not None: names.append(name)
            return names

        """

    @Test("list 100 000 names completely, plainly and with attributes")
    func listsMany() async throws {
        let count = 100_000
        let coordinator = try Self.coordinator(count)
        let fixture = try await MountFixture.start(coordinator)
        let plain = try await fixture.shell("ls -U $M/many | sort | md5sum; ls -f $M/many | wc -l")
        let expected = try await fixture.shell(
            "seq -f 'name-%.0f' 1000000 \(1_000_000 + count - 1) | md5sum; echo \(count + 2)")
        #expect(plain.output == expected.output)
        let long = try await fixture.shell("ls -lU $M/many | awk '$5 == 3' | wc -l")
        #expect(long.output == "\(count)\n")
        // READDIRPLUS brought the attributes along, so that few names were looked up one by one.
        #expect(coordinator.log.withLock { $0.lookups.count } < count / 10)
    }

    @Test("seek to a remembered position, back and forth, and show the same entries there")
    func seeks() async throws {
        let coordinator = try Self.coordinator(5_000, pageEntries: 100)
        let fixture = try await MountFixture.start(coordinator)
        let result = try await fixture.python(
            Self.directoryCalls + """
                places = []
                while True:
                    place = tell()
                    name = next()
                    if name is None: break
                    places.append((place, name))
                print(len(places), len(set(places)))
                random.seed(42)
                for place, name in random.sample(places, 60):
                    libc.seekdir(d, place)
                    found = next()
                    if found != name: print("at", place, found, "instead of", name)
                libc.rewinddir(d)
                print(len(rest()))
                """)
        #expect(result.output == "5002 5002\n5002\n")
    }

    @Test("show what has changed after rewinddir")
    func rewinds() async throws {
        let coordinator = try Self.coordinator(10)
        let fixture = try await MountFixture.start(coordinator)
        mkfifo(coordinator.directory + "/gate", 0o600)
        let reader = try await Shell.start(
            """
            python3 - <<'END'
            import os
            M = os.environ["M"]
            \(Self.directoryCalls)
            before = rest()
            print(len(before), flush=True)
            open("\(coordinator.directory)/gate").read()
            libc.rewinddir(d)
            after = rest()
            print(len(after), set(after) - set(before))
            END
            """, mountPoint: fixture.path)
        #expect(await eventually { reader.output == "12\n" })
        coordinator.script.withLock { script in
            guard let parent = script.tree.children[FakeTree.root]?["many"],
                case .file(let file)? = script.tree.nodes.values.first(where: { $0.name == "name-template" })?.content
            else { return }
            _ = script.tree.add("new", .file(file), in: parent)
        }
        _ = try await fixture.shell("echo go > \(coordinator.directory)/gate")
        #expect(await reader.wait() == 0)
        #expect(reader.output == "12\n13 {'new'}\n")
    }

    @Test("go on where their reader is when the listing's stream is lost")
    func survivesLostStream() async throws {
        let coordinator = try Self.coordinator(3_000, pageEntries: 50)
        let fixture = try await MountFixture.start(coordinator)
        mkfifo(coordinator.directory + "/gate", 0o600)
        let reader = try await Shell.start(
            """
            python3 - <<'END'
            import os
            M = os.environ["M"]
            \(Self.directoryCalls)
            names = [next() for _ in range(1000)]
            print("half", flush=True)
            open("\(coordinator.directory)/gate").read()
            names += rest()
            print(len(names), len(set(names)))
            END
            """, mountPoint: fixture.path)
        #expect(await eventually { reader.output == "half\n" })
        coordinator.stop()
        try coordinator.start()
        _ = try await fixture.shell("echo go > \(coordinator.directory)/gate")
        #expect(await reader.wait() == 0)
        #expect(reader.output == "half\n3002 3002\n")
    }
}

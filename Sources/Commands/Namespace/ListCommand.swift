import ArgumentParser

/// `larder ls PATH…`: a directory with what is cached of each file.
struct ListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls", abstract: "List a directory, with how much of each file is cached.")

    @Argument(help: "Paths in a Larder mount.", completion: .file())
    var paths: [String] = ["."]
    @Flag(help: "Print JSON: an array of {path, entries}.")
    var json = false

    func run() throws {
        let output = Output.standard()
        var targets: [NamespaceTarget] = []
        for path in paths { targets.append(try NamespaceTarget(path: path)) }
        if json { output.write("[") }
        for (index, target) in targets.enumerated() {
            if index > 0 { output.write(json ? "," : "\n") }
            if paths.count > 1, !json { output.line("\(PrintableName.of(target.path)):") }
            try DirectoryContents(target: target, json: json).run(output)
        }
        if json { output.line("]") }
    }
}

import Commands
import TestSupport
import Testing

/// What `body` throws, for tests of the text of errors.
func failure(
    sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Void
) -> CommandFailure {
    do {
        try body()
        Issue.record("nothing was thrown", sourceLocation: sourceLocation)
    } catch let failure as CommandFailure { return failure } catch {
        Issue.record("threw \(error), not a CommandFailure", sourceLocation: sourceLocation)
    }
    return CommandFailure(code: -1, message: "")
}

extension TemporaryDirectory {
    /// Writes a file and returns its path.
    func make(_ name: String, _ text: String) throws -> String {
        try write(name, text)
        return file(name)
    }
}

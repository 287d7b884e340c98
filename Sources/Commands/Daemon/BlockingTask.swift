import Platform

/// Runs asynchronous work from a command's main thread, which is none of the cooperative pool's.
enum BlockingTask {
    @available(*, noasync, message: "blocks its thread; await the work instead")
    static func run<Value: Sendable>(_ body: @escaping @Sendable () async -> Value) -> Value {
        let result = OneShot<Value>()
        Task { result.set(await body()) }
        while true { if let value = result.wait() { return value } }
    }
}

import CCurl
import Platform
import Synchronization

/// One curl multi handle and the thread that drives it. Transfers arrive through a queue and `curl_multi_wakeup`; they
/// are started while the host has a free connection, and finished outside the lock.
///
/// Only `submit`, `cancel`, `stop` and `load` may be called from other threads; everything else belongs to `run`.
final class CurlLoop: @unchecked Sendable {
    private enum Command {
        case submit(CurlTransfer)
        case cancel(CurlTransfer)
        case stop
    }

    /// How often the deadlines of running transfers are looked at, in milliseconds: the resolution of timeouts.
    private static let tick: CInt = 100
    /// How long an idle thread sleeps; a wakeup ends it.
    private static let idle: CInt = 60_000

    private let options: CurlTransport.Options
    private let connectionsPerHost: Int
    private let multi: OpaquePointer
    private let commands = Lock<[Command]>([])
    private let unfinished = Atomic<Int>(0)

    private var active: [OpaquePointer: CurlTransfer] = [:]
    private var hosts: [String: HostQueue] = [:]
    private var idleHandles: [OpaquePointer] = []
    private var nextTick: UInt64 = 0

    /// The requests of one scheme, host and port.
    private struct HostQueue {
        var running = 0
        var waiting: [CurlTransfer] = []
        /// The first of `waiting` that has not been taken yet.
        var head = 0
    }

    init(options: CurlTransport.Options, connectionsPerHost: Int) throws(HTTPError) {
        guard let multi = curl_multi_init() else { throw HTTPError(.resources, "curl_multi_init failed") }
        self.options = options
        self.connectionsPerHost = connectionsPerHost
        self.multi = OpaquePointer(multi)
        // The pool keeps as many idle connections as one host may use, else curl would close those beyond four per
        // transfer.
        _ = larder_curl_multi_set_long(multi, CURLMOPT_MAXCONNECTS, connectionsPerHost + 4)
    }

    /// Transfers handed over and not finished. Any thread.
    var load: Int { unfinished.load(ordering: .relaxed) }

    func submit(_ transfer: CurlTransfer) {
        unfinished.add(1, ordering: .relaxed)
        post(.submit(transfer))
    }

    func cancel(_ transfer: CurlTransfer) {
        transfer.isCancelled.store(true, ordering: .relaxed)
        post(.cancel(transfer))
    }

    /// Ends the thread. There is no transfer left: each holds its transport.
    func stop() { post(.stop) }

    private func post(_ command: Command) {
        commands.withLock { $0.append(command) }
        curl_multi_wakeup(UnsafeMutableRawPointer(multi))
    }
}

extension CurlLoop {
    /// The thread's body.
    func run() {
        let multi = UnsafeMutableRawPointer(multi)
        while true {
            let batch = commands.withLock { queue in
                defer { queue.removeAll(keepingCapacity: true) }
                return queue
            }
            var stops = false
            for command in batch {
                switch command {
                case .submit(let transfer): enqueue(transfer)
                case .cancel(let transfer): cancelNow(transfer)
                case .stop: stops = true
                }
            }
            if stops { break }
            var running: CInt = 0
            curl_multi_perform(multi, &running)
            collectFinished()
            checkDeadlines()
            waitForActivity()
        }
        for handle in idleHandles { curl_easy_cleanup(UnsafeMutableRawPointer(handle)) }
        curl_multi_cleanup(multi)
    }

    // A name of its own, so that profilers can tell waiting from working.
    @inline(never)
    private func waitForActivity() {
        curl_multi_poll(UnsafeMutableRawPointer(multi), nil, 0, active.isEmpty ? Self.idle : Self.tick, nil)
    }

    private func enqueue(_ transfer: CurlTransfer) {
        if transfer.isCancelled.load(ordering: .relaxed) {
            return finish(transfer, .failure(.cancelled(transfer.host)))
        }
        var queue = hosts[transfer.host] ?? HostQueue()
        if queue.running < connectionsPerHost {
            queue.running += 1
            hosts[transfer.host] = queue
            start(transfer)
        } else {
            queue.waiting.append(transfer)
            hosts[transfer.host] = queue
        }
    }

    private func start(_ transfer: CurlTransfer) {
        guard let easy = idleHandles.popLast() ?? curl_easy_init().map({ OpaquePointer($0) }) else {
            finish(transfer, .failure(HTTPError(.resources, "curl_easy_init failed")))
            return release(host: transfer.host)
        }
        if let error = transfer.prepare(UnsafeMutableRawPointer(easy), options: options) {
            return end(transfer, on: easy, .failure(error), attached: false)
        }
        transfer.began = MonotonicClock.now()
        let code = curl_multi_add_handle(UnsafeMutableRawPointer(multi), UnsafeMutableRawPointer(easy))
        guard code == CURLM_OK else {
            let reason = String(cString: curl_multi_strerror(code))
            return end(transfer, on: easy, .failure(HTTPError(.resources, "curl: \(reason)")), attached: false)
        }
        active[easy] = transfer
    }

    private func collectFinished() {
        var code = CURLE_OK
        while let raw = larder_curl_next_done(UnsafeMutableRawPointer(multi), &code) {
            let easy = OpaquePointer(raw)
            guard let transfer = active.removeValue(forKey: easy) else { continue }
            end(transfer, on: easy, transfer.outcome(of: code), attached: true)
        }
    }

    private func cancelNow(_ transfer: CurlTransfer) {
        if let easy = transfer.easy, active[easy] === transfer {
            active[easy] = nil
            return end(transfer, on: easy, .failure(.cancelled(transfer.host)), attached: true)
        }
        guard var queue = hosts[transfer.host],
            let index = queue.waiting[queue.head...].firstIndex(where: { $0 === transfer })
        else { return }
        queue.waiting.remove(at: index)
        hosts[transfer.host] = queue
        finish(transfer, .failure(.cancelled(transfer.host)))
    }

    private func checkDeadlines() {
        let now = MonotonicClock.now()
        guard now >= nextTick else { return }
        nextTick = now + UInt64(Self.tick) * 1_000_000
        for (easy, transfer) in active {
            guard let error = transfer.overdue(at: now) else { continue }
            active[easy] = nil
            end(transfer, on: easy, .failure(error), attached: true)
        }
    }

    /// Takes the handle back, lets the host's next request start, and answers the caller.
    private func end(
        _ transfer: CurlTransfer, on easy: OpaquePointer, _ result: Result<HTTPResponse, HTTPError>, attached: Bool
    ) {
        let raw = UnsafeMutableRawPointer(easy)
        if attached { curl_multi_remove_handle(UnsafeMutableRawPointer(multi), raw) }
        transfer.dispose()
        // A handle that is used again keeps its TLS sessions. One that was interrupted may keep its receive buffer too,
        // and then refuses another size of it.
        if case .success = result, idleHandles.count < connectionsPerHost {
            curl_easy_reset(raw)
            idleHandles.append(easy)
        } else {
            curl_easy_cleanup(raw)
        }
        finish(transfer, result)
        release(host: transfer.host)
    }

    private func release(host: String) {
        guard var queue = hosts[host] else { return }
        guard queue.head < queue.waiting.count else {
            queue.running -= 1
            hosts[host] = queue.running == 0 ? nil : queue
            return
        }
        let next = queue.waiting[queue.head]
        queue.head += 1
        if queue.head > 64, queue.head * 2 > queue.waiting.count {
            queue.waiting.removeFirst(queue.head)
            queue.head = 0
        }
        hosts[host] = queue
        start(next)
    }

    private func finish(_ transfer: CurlTransfer, _ result: Result<HTTPResponse, HTTPError>) {
        unfinished.subtract(1, ordering: .relaxed)
        transfer.resume(result)
    }
}

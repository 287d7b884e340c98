import Platform
import TestSupport
import Testing

/// Programs that people have, working in a directory of a bucket. The gateway checks signatures and parts for real.
@Suite struct ProgramsTests {
    /// `$1` of the script is a directory of the mount, `$2` one of a local file system.
    func run(
        _ script: String, limit: Int = 150, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let server = try await JuiceFSGateway.shared.get()
        // The gateway keeps no metadata of directories, so their times and modes are known as long as they are believed.
        let options = ["--metadata-ttl", "1h"]
        try await withWritableMount(server, options, sourceLocation: sourceLocation) { node, mount, bucket in
            try node.directory.makeDirectory("local")
            let result = try await node.shellOutcome(script, [mount, node.directory.file("local")], limit: limit)
            #expect(result.code == 0, "\(result.output)", sourceLocation: sourceLocation)
            try await expectPlainLayout(bucket, of: mount, sourceLocation: sourceLocation)
        }
    }

    @Test func gitKeepsARepository() async throws {
        try await run(
            """
            cd "$1"; git init -q repo; cd repo
            for i in 1 2 3 4 5 6; do mkdir -p d$i; seq $((i * 300)) > d$i/file; git add .; git commit -qm "commit $i"; done
            git mv d1 moved; git rm -q d2/file; git commit -qam "moved and removed"
            git checkout -qb side HEAD~3; echo side > side; git add side; git commit -qm side
            git checkout -q -; git merge -q --no-edit side
            git gc -q --prune=now
            git fsck --strict
            test -z "$(git status --porcelain)"
            git clone -q "$1/repo" "$2/clone"; git clone -q --bare "$2/clone" "$1/bare.git"
            git -C "$1/bare.git" fsck --strict
            git clone -q "$1/bare.git" "$2/again"
            diff -r --exclude=.git "$1/repo" "$2/again"
            test "$(git -C "$2/again" log --oneline | wc -l)" = 9
            cd "$2/again"; echo pushed > new; git add new; git commit -qm new; git push -q
            test "$(git -C "$1/bare.git" show HEAD:new)" = pushed
            """)
    }

    @Test(arguments: ["delete", "truncate", "persist", "wal"])
    func sqliteKeepsADatabase(journal: String) async throws {
        try await run(
            """
            cat > "$2/changes.sql" <<'END'
            create table t(id integer primary key, name text, amount integer);
            begin; with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000)
              insert into t select i, 'row ' || i, i * 7 % 1000 from n; commit;
            create index by_amount on t(amount);
            begin; update t set amount = amount + 1 where id % 3 = 0; delete from t where id % 10 = 0; commit;
            begin; delete from t; rollback;
            insert into t values (100000, 'last', 1);
            vacuum;
            END
            for db in "$1/db.sqlite" "$2/db.sqlite"; do
              sqlite3 "$db" "pragma journal_mode=\(journal)" "pragma synchronous=full" ".read $2/changes.sql" > /dev/null
            done
            test "$(sqlite3 "$1/db.sqlite" 'pragma integrity_check')" = ok
            for n in 1 2 3 4; do
              (for i in 1 2 3 4 5; do sqlite3 -cmd '.timeout 60000' "$1/db.sqlite" "insert into t(name, amount) values ('p$n', $i)"; done) &
              sqlite3 -cmd '.timeout 60000' "$2/db.sqlite" "insert into t(name, amount) select 'p$n', value from generate_series(1, 5)"
            done; wait
            q="select name, amount, count(*) from t group by 1, 2 order by 1, 2"
            diff <(sqlite3 "$1/db.sqlite" "$q") <(sqlite3 "$2/db.sqlite" "$q")
            test "$(sqlite3 "$1/db.sqlite" 'pragma integrity_check')" = ok
            """)
    }

    @Test func duckDBKeepsADatabaseAndWritesAPartitionedDataset() async throws {
        try await run(
            """
            cat > "$2/work.py" <<'END'
            import duckdb, sys
            d = sys.argv[1]
            c = duckdb.connect(f"{d}/data.duckdb")
            c.sql("create table t as select i as id, i % 5 as part, 'row ' || i as name from range(200000) r(i)")
            c.sql("update t set name = 'changed' where id % 100 = 0"); c.sql("delete from t where id % 1000 = 7")
            c.sql("checkpoint"); c.close()
            c = duckdb.connect(f"{d}/data.duckdb")
            c.sql(f"copy t to '{d}/set' (format parquet, partition_by (part))")
            c.sql(f"copy (select 1 as id, 9 as part, 'x' as name) to '{d}/set' (format parquet, partition_by (part), overwrite_or_ignore)")
            c.sql(f"copy t to '{d}/all.csv' (header)")
            q = "select part, count(*), sum(id), min(name), max(name) from {} group by 1 order by 1"
            print(c.sql(q.format("t")).fetchall())
            print(c.sql(q.format(f"read_parquet('{d}/set/**/*.parquet', hive_partitioning=true)")).fetchall())
            print(c.sql(q.format(f"read_csv('{d}/all.csv')")).fetchall())
            END
            diff <(python "$2/work.py" "$1") <(mkdir "$2/ref"; python "$2/work.py" "$2/ref")
            test "$(find "$1/set" -name '*.parquet' | wc -l)" = "$(find "$2/ref/set" -name '*.parquet' | wc -l)"
            """)
    }

    private static let makeTree = """
        make_tree() {
          mkdir -p "$1"/a/b/c "$1"/empty "$1"/many; seq 100000 > "$1"/a/numbers; echo x > "$1"/a/b/x; : > "$1"/a/b/nothing
          for i in $(seq 60); do echo "$i" > "$1/many/file $i"; done
          head -c 3000000 /dev/urandom > "$1"/a/b/c/random
          ln -s a/numbers "$1"/link; ln -s nowhere "$1"/dangling; ln -s .. "$1"/a/b/up
          chmod 600 "$1"/a/b/x; chmod 755 "$1"/a/numbers; chmod 700 "$1"/a/b; chmod 555 "$1"/empty; chown 12:34 "$1"/a/numbers
          find "$1" -exec touch -h -d '2001-02-03 04:05:06.789' {} +
        }
        show() { (cd "$1"; find . -printf '%P %y %m %U:%G %Ts %l\\n' | sort; find . -type f -print0 | sort -z | xargs -0 md5sum); }
        """

    @Test func tarAndRsyncKeepATree() async throws {
        try await run(
            Self.makeTree + """

                make_tree "$2/tree"; cd "$2"
                tar -cf tree.tar tree
                mkdir "$1/tar" "$1/rsync"; tar -xpf tree.tar -C "$1/tar"
                diff <(show tree) <(show "$1/tar/tree")
                tar -cf "$1/back.tar" -C "$1/tar" tree; mkdir back; tar -xpf "$1/back.tar" -C back
                diff <(show tree) <(show back/tree)
                tar -czf "$1/z.tgz" tree; tar -tzf "$1/z.tgz" > /dev/null
                rsync -a tree/ "$1/rsync/"
                diff <(show tree) <(show "$1/rsync")
                test -z "$(rsync -a --itemize-changes tree/ "$1/rsync/")"
                echo more >> tree/a/numbers; rm "tree/many/file 7"
                test "$(rsync -a --delete --inplace --itemize-changes tree/ "$1/rsync/" | grep -vc '/$')" = 2
                rsync -a "$1/rsync/" back2/; diff <(show tree) <(show back2)
                chmod 755 tree/empty back/tree/empty back2/empty
                """)
    }

    @Test func copiesEditsAndMovesOfTreesAreThoseOfLocalFiles() async throws {
        try await run(
            Self.makeTree + """

                make_tree "$2/source"
                work() { cd "$1"; cp -r "$2/source" one; cp -a one two; cp --reflink=auto two/a/numbers numbers
                  sed -i 's/^5/five/' two/a/numbers; mv two three; mkdir four; mv three four/; mv four/three/a/b/x y
                  mv -T one/a/b four/empty; rm -r one/many; cp -r four five; rm -rf four; truncate -s 100 five/three/a/numbers
                  dd if=/dev/zero of=five/hole bs=1 count=1 seek=1000000 status=none; ln five/hole hard 2>/dev/null || cp five/hole hard
                  find . -name 'file*' -newermt '2001-01-01' | wc -l; }
                mkdir "$2/ref"
                diff <(work "$1" "$2") <(work "$2/ref" "$2")
                diff -r --no-dereference "$1" "$2/ref"
                chmod 755 "$2/source/empty" "$2/ref/five/three/empty" "$2"/ref/one/empty
                """)
    }

    @Test func zipAndVimAndPipAndPythonWork() async throws {
        try await run(
            """
            mkdir "$2/src"; seq 50000 > "$2/src/n"; head -c 500000 /dev/urandom > "$2/src/r"; mkdir "$2/src/d"; echo a > "$2/src/d/a"
            (cd "$2"; python -m zipfile -c src.zip src); cp "$2/src.zip" "$1/src.zip"
            cd "$1"; unzip -q src.zip; diff -r src "$2/src"
            for i in 1 2 3; do
              vim -es -u NONE -i NONE -c 'set backup writebackup backupskip= backupcopy=no fsync' -c "normal Goline $i" -c wq src/d/a < /dev/null
            done
            test "$(cat src/d/a)" = "$(printf 'a\\nline 1\\nline 2\\nline 3')"; test -f src/d/a~
            for i in 1 2 3; do t=$(mktemp src/d/.tmpXXXX); echo "$i" > "$t"; sync "$t"; mv "$t" src/d/a; test "$(cat src/d/a)" = $i; done

            mkdir -p "$2/w/greeting-1.0.dist-info" "$2/w/greeting"; echo 'def hello(): return "hello"' > "$2/w/greeting/__init__.py"
            printf 'Metadata-Version: 2.1\\nName: greeting\\nVersion: 1.0\\n' > "$2/w/greeting-1.0.dist-info/METADATA"
            printf 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n' > "$2/w/greeting-1.0.dist-info/WHEEL"
            printf 'greeting/__init__.py,,\\ngreeting-1.0.dist-info/METADATA,,\\ngreeting-1.0.dist-info/WHEEL,,\\ngreeting-1.0.dist-info/RECORD,,\\n' > "$2/w/greeting-1.0.dist-info/RECORD"
            (cd "$2/w"; python -m zipfile -c ../greeting-1.0-py3-none-any.whl greeting greeting-1.0.dist-info)
            python -m pip install -q --no-index --no-deps --disable-pip-version-check --target "$1/site" "$2/greeting-1.0-py3-none-any.whl"
            PYTHONPATH="$1/site" python -c 'import greeting; assert greeting.hello() == "hello" and greeting.__file__.startswith("'"$1"'")'

            python - "$1" <<'END'
            import os, pickle, sys, mmap
            os.chdir(sys.argv[1])
            data = {i: "x" * i for i in range(2000)}
            with open("p", "wb") as f: pickle.dump(data, f)
            assert pickle.load(open("p", "rb")) == data
            for i in range(50):
                with open("log", "a") as f: f.write(f"line {i}\\n")
            assert open("log").read() == "".join(f"line {i}\\n" for i in range(50))
            with open("log", "r+b") as f:
                f.seek(5); f.write(b"Z"); f.truncate(20); f.flush(); os.fsync(f.fileno())
                with mmap.mmap(f.fileno(), 20) as m: m[0:4] = b"LINE"; m.flush()
            assert open("log", "rb").read() == b"LINE Z\\nline 1\\nline 2"[:20], open("log", "rb").read()
            END
            """)
    }

    @Test func lockFilesAndLocksExclude() async throws {
        try await run(
            """
            cd "$1"; echo 0 > counter
            # Eight processes add by turns: what excludes them is a file that only one of them can create, or flock.
            cat > "$2/add.py" <<'END'
            import fcntl, os, sys, time
            kind, directory = sys.argv[1:]
            for _ in range(5):
                if kind == "excl":
                    while True:
                        try: fd = os.open(f"{directory}/lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY); break
                        except FileExistsError: time.sleep(0.002)
                    os.close(fd)
                else:
                    lock = open(f"{directory}/flock", "w"); (fcntl.flock if kind == "flock" else fcntl.lockf)(lock, fcntl.LOCK_EX)
                n = int(open(f"{directory}/counter").read())
                with open(f"{directory}/counter", "w") as f: f.write(str(n + 1))
                if kind == "excl": os.unlink(f"{directory}/lock")
                else: lock.close()
            END
            for kind in excl flock posix; do
              pids=; for p in 1 2 3 4; do python "$2/add.py" $kind "$1" & pids="$pids $!"; done
              for p in $pids; do wait $p; done
            done
            test "$(cat counter)" = 60
            exec 9> held; flock 9; ! flock -n held true; exec 9>&-; flock -n held true
            """)
    }
}

"""The S3 servers that the cases read from, over the same files."""
import http.client
import os
import statistics
import time
import urllib.parse
from xml.sax.saxutils import escape

import boto3
import botocore.config

import s3_gateway

from .processes import Failure, start, stop, tail

BUCKET = "bench"

NGINX = """\
{user}
daemon off;
pid {directory}/pid;
error_log {directory}/error.log;
worker_processes auto;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    log_format requests '$request_method $status $request_uri';
    access_log {directory}/requests.log requests;
    types {{ }}
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    map $arg_prefix $listing {{
        default nothing;
{listings}
    }}
    server {{
        listen 127.0.0.1:{port};
        root {root};
        location = /{bucket} {{ rewrite ^ /listing/$listing last; }}
        location = /{bucket}/ {{ rewrite ^ /listing/$listing last; }}
        location /listing/ {{ internal; default_type application/xml; alias {directory}/listings/; }}
        location / {{ try_files $uri =404; }}
    }}
}}
"""


class NginxStore:
    """The fastest server at hand: nginx sends the files; listings are prepared, one for each directory.

    It knows GET and HEAD of objects with ranges, ETag and If-Match, and what larder asks of ListObjectsV2 on buckets of
    few objects (at most one page for each directory); no signatures. A context manager.
    """
    name = "nginx"
    access_key = secret_key = None

    def __init__(self, root, directory):
        self.root = root
        self.directory = directory
        self.endpoint = None
        self.process = None

    def __enter__(self):
        listings = os.path.join(self.directory, "listings")
        os.makedirs(listings)
        port = s3_gateway.free_port()
        configuration = os.path.join(self.directory, "nginx.conf")
        with open(configuration, "w", encoding="utf-8") as out:
            out.write(NGINX.format(
                user="user root;" if os.geteuid() == 0 else "", directory=self.directory, port=port, root=self.root,
                bucket=BUCKET, listings="\n".join(f"        {line}" for line in self._write_listings(listings))))
        self.endpoint = f"http://127.0.0.1:{port}"
        log = os.path.join(self.directory, "error.log")
        self.process = start(["nginx", "-p", self.directory, "-c", configuration, "-e", log], log)
        try:
            self._wait_until_ready(log)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        stop(self.process)

    def _wait_until_ready(self, log):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.round_trip(f"/{BUCKET}", 1)
                return
            except OSError:
                time.sleep(0.02)
        raise Failure(f"nginx did not start: {tail(log)}")

    def _write_listings(self, listings):
        """Writes the answers, and yields the lines that choose one by the prefix that is asked for."""
        top = os.path.join(self.root, BUCKET)
        with open(os.path.join(listings, "nothing"), "w", encoding="utf-8") as out:
            out.write(listing("", [], []))
        for number, (directory, subdirectories, files) in enumerate(os.walk(top)):
            prefix = "" if directory == top else os.path.relpath(directory, top) + "/"
            objects = [(prefix + file, os.stat(os.path.join(directory, file))) for file in sorted(files)]
            with open(os.path.join(listings, str(number)), "w", encoding="utf-8") as out:
                out.write(listing(prefix, objects, [prefix + name + "/" for name in sorted(subdirectories)]))
            for spelling in dict.fromkeys([prefix, urllib.parse.quote(prefix, safe="")]):
                yield f'"{spelling}" {number};'

    def url(self, key):
        return f"{self.endpoint}/{BUCKET}/{key}"

    def requests(self):
        """How many it has answered."""
        # It writes its log after the answer.
        time.sleep(0.2)
        with open(os.path.join(self.directory, "requests.log"), "rb") as log:
            return sum(1 for _ in log)

    def round_trip(self, path, times=50):
        """Seconds of one request and its answer, on an open connection; the median."""
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.endpoint).netloc, timeout=10)
        seconds = []
        for _ in range(times):
            started = time.perf_counter()
            connection.request("GET", path, headers={"Range": "bytes=0-0"})
            connection.getresponse().read()
            seconds.append(time.perf_counter() - started)
        connection.close()
        return statistics.median(seconds)


def listing(prefix, objects, directories):
    """A ListBucketResult (Amazon S3 API Reference, ListObjectsV2) with the ETags that nginx computes."""
    contents = "".join(
        f"<Contents><Key>{escape(key)}</Key><Size>{stat.st_size}</Size>"
        f"<ETag>&quot;{int(stat.st_mtime):x}-{stat.st_size:x}&quot;</ETag><StorageClass>STANDARD</StorageClass>"
        f"<LastModified>{time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime(int(stat.st_mtime)))}</LastModified>"
        "</Contents>" for key, stat in objects)
    prefixes = "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in directories)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix><Delimiter>/</Delimiter><MaxKeys>1000</MaxKeys>"
        f"<KeyCount>{len(objects) + len(directories)}</KeyCount><IsTruncated>false</IsTruncated>"
        f"{contents}{prefixes}</ListBucketResult>")


class GatewayStore:
    """An S3 server that checks signatures, with its own work to do for each byte: JuiceFS's gateway. A context manager."""
    name = "gateway"
    bucket = BUCKET

    def __init__(self, juicefs, root, directory):
        self.gateway = s3_gateway.Gateway(juicefs, directory)
        self.root = root
        self.client = None

    def __enter__(self):
        try:
            self.gateway.__enter__()
        except (RuntimeError, OSError) as error:
            raise Failure(str(error).splitlines()[0]) from error
        try:
            self.client = boto3.client(
                "s3", endpoint_url=self.endpoint, region_name="us-east-1", aws_access_key_id=self.access_key,
                aws_secret_access_key=self.secret_key,
                config=botocore.config.Config(signature_version="s3v4", s3={"addressing_style": "path"}))
            self.client.create_bucket(Bucket=BUCKET)
            top = os.path.join(self.root, BUCKET)
            for directory, _, files in os.walk(top):
                for file in files:
                    path = os.path.join(directory, file)
                    with open(path, "rb") as body:
                        self.client.put_object(Bucket=BUCKET, Key=os.path.relpath(path, top), Body=body)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.gateway.__exit__()

    @property
    def endpoint(self):
        return self.gateway.endpoint

    @property
    def access_key(self):
        return self.gateway.access_key

    @property
    def secret_key(self):
        return self.gateway.secret_key

    def has(self, key, size):
        """Whether there is an object of that size."""
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=key, MaxKeys=1).get("Contents", [])
        return bool(found) and found[0]["Key"] == key and found[0]["Size"] == size

    def count(self, prefix):
        """How many objects with bytes have keys that begin so."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return sum(1 for page in pages for found in page.get("Contents", []) if found["Size"] > 0)

    def url(self, key):
        return self.client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": key})

"""Downloads what OpenAI released for Image GPT.

    python tools/download_openai.py --model=s --step=1000000 --palette

Files land in `--directory` under the names they have on the server, and only
when whole. Ctrl-C or a dropped connection loses nothing: the same command
continues.
"""

import base64
import hashlib
import os
import pathlib
import signal
import sys
import time
import urllib.parse

import requests
import tqdm
from absl import app
from absl import flags

SHARDS = {"s": 32, "m": 32, "l": 64}
STEPS = ["131000", "262000", "524000", "1000000"]
PALETTE = "color-clusters/kmeans_centers.npy"
SHA256 = {
    PALETTE: "c614a3d27f02fd6cf02fbbaf9f02e2431fa202726f3e44750658a85eb226bebd"
}
HEADERS = {
    # Lengths are then those of the files, not of compressed copies.
    "Accept-Encoding": "identity",
    # Azure otherwise answers as in 2009: ETags lack their quotes, and a Range
    # needs an end. Other servers ignore it.
    "x-ms-version": "2014-02-14",
}
TIMEOUT = (10, 60)  # Seconds to connect, and to wait for bytes.
PAUSES = (0.5, 1, 2, 4)  # Seconds before each further attempt.
CHUNK = 2**16  # Bytes; a dropped connection costs at most one chunk.


def define_flags():
    flags.DEFINE_enum("model", None, list(SHARDS), "Size of the checkpoint.")
    flags.DEFINE_enum("step", "1000000", STEPS, "Step of the checkpoint.")
    flags.DEFINE_bool("bert", False, "The checkpoint of the BERT objective.")
    flags.DEFINE_bool("palette", False, "The 512 colours, kmeans_centers.npy.")
    flags.DEFINE_multi_enum(
        "dataset",
        [],
        ["imagenet", "cifar10"],
        "Tokens and labels of 32x32 images. May be given twice.",
    )
    flags.DEFINE_string("directory", "openai", "Where the files go.")
    flags.DEFINE_string(
        "base_url",
        "https://openaipublic.blob.core.windows.net/image-gpt/",
        "A mirror, if you have one.",
    )


class Failure(Exception):
    """Ends the command with its sentence."""


class Interruption(Failure):
    """A failure that another attempt may not meet."""


def checkpoint_names(model, step, bert):
    """Files of a checkpoint, in the order to fetch them.

    The index is last: shards without it do not look like a checkpoint.
    """
    folder = f"checkpoints/igpt-{model}{'-bert' if bert else ''}/{step}"
    stem = f"{folder}/model.ckpt-{step}"
    count = SHARDS[model]
    shards = [f"{stem}.data-{i:05d}-of-{count:05d}" for i in range(count)]
    return [*shards, f"{stem}.index"]


def dataset_names(dataset):
    splits = ["trX", "trY", "vaX", "vaY", "teX", "teY"]
    return [f"datasets/{dataset}_{split}.npy" for split in splits]


def persist(work, *arguments):
    """`work(*arguments)`, tried again while it is interrupted."""
    for pause in PAUSES:
        try:
            return work(*arguments)
        except Interruption as interruption:
            print(f"{interruption} Trying again.", flush=True)
            time.sleep(pause)
    return work(*arguments)


def ask(session, method, url, headers=None):
    """An answer of status 200, 206 or 416; a GET's body is still to come."""
    stream = method == "GET"
    try:
        response = session.request(
            method, url, headers=headers, stream=stream, timeout=TIMEOUT
        )
    except (requests.ConnectionError, requests.Timeout) as error:
        host = urllib.parse.urlsplit(url).netloc
        raise Interruption(
            f"No answer from {host} ({type(error).__name__}): check the "
            "network, or name a mirror with --base_url."
        ) from error
    status = response.status_code
    if status in (200, 206, 416):
        return response
    response.close()
    sentence = f"The server answered {status} {response.reason} for {url}."
    if status == 404 and "-bert/" in url:
        sentence += " Not all twelve BERT checkpoints are known to exist."
    raise (Interruption if status >= 500 else Failure)(sentence)


def look_up(session, url):
    """Size in bytes, strong ETag or None, and base64 MD5 or None of a file."""
    return describe(ask(session, "HEAD", url))


def describe(response):
    size = response.headers.get("Content-Length", "")
    if not size.isdigit():
        raise Failure(
            f"{response.url} comes without a Content-Length, which would tell "
            "whether it is whole: name a mirror with --base_url."
        )
    etag = response.headers.get("ETag")
    if etag and etag.startswith("W/"):
        etag = None
    return int(size), etag, response.headers.get("Content-MD5")


def receive(session, url, partial, tag, label):
    """One attempt to complete `partial`; its MD5 if the server tells it.

    `tag` is a file with the ETag of what `partial` holds.
    """
    size, etag, md5 = look_up(session, url)
    have, headers = 0, {}
    if etag and partial.is_file() and tag.is_file():
        if tag.read_bytes() == etag.encode():
            have = partial.stat().st_size
            headers = {"Range": f"bytes={have}-", "If-Range": etag}
    if have and have == size:
        return md5
    if have:
        print(f"{partial}: continues at byte {have}", flush=True)
    with ask(session, "GET", url, headers if have else None) as response:
        if response.status_code == 200:
            have = 0
            same = describe(response)[:2] == (size, etag)
        else:
            span = f"bytes {have}-{size - 1}/{size}"
            # A server that ignores If-Range would continue another file.
            same = (
                response.headers.get("Content-Range") == span
                and response.headers.get("ETag", etag) == etag
            )
        if not same:
            tag.unlink(missing_ok=True)
            raise Interruption(f"{url} changed, or came from a wrong byte.")
        bar = tqdm.tqdm(
            desc=label,
            total=size,
            initial=have,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=None,  # Shown on terminals only.
        )
        with bar, open(partial, "ab" if have else "wb") as file:
            if not have:  # The old bytes are gone: they never get this ETag.
                tag.write_bytes((etag or "").encode())
            try:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
            except requests.RequestException:
                pass  # The size tells.
    have = partial.stat().st_size
    if have != size:
        raise Interruption(
            f"{partial} has {have} of {size} bytes; the same command continues."
        )
    return md5


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of(path):
    """MD5 as a Content-MD5 header has it."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "md5").digest()
    return base64.b64encode(digest).decode()


def fetch(session, url, path, label, expected_sha256=None):
    """Downloads a file; `path` appears, or is replaced, when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    tag = path.with_name(f"{path.name}.partial.etag")
    expected_md5 = persist(receive, session, url, partial, tag, label)
    with open(partial, "rb+") as file:
        os.fsync(file.fileno())
    for kind, found, expected in (
        ("MD5", expected_md5 and md5_of(partial), expected_md5),
        ("SHA-256", expected_sha256 and sha256(partial), expected_sha256),
    ):
        if expected and found != expected:
            partial.unlink()
            tag.unlink(missing_ok=True)
            raise Failure(
                f"{url} came with {kind} {found}, not {expected}: removed; "
                "try again."
            )
    os.replace(partial, path)
    tag.unlink(missing_ok=True)


def download(names, directory, base_url):
    """Fetches those of `names` that `directory` does not hold already."""
    session = requests.Session()
    session.headers.update(HEADERS)
    urls = {name: f"{base_url.rstrip('/')}/{name}" for name in names}
    print(f"Looking up {len(names)} files at {base_url}", flush=True)
    sizes = {}
    for name, url in urls.items():
        path = directory / name
        size, _, md5 = persist(look_up, session, url)
        here = path.stat().st_size if path.is_file() else None
        whole = here == size
        if whole and md5:
            whole = md5_of(path) == md5
        if whole and name in SHA256:
            whole = sha256(path) == SHA256[name]
        if whole:
            print(f"{path}: already here")
            continue
        if here is not None:
            print(f"{path}: {here} bytes that are not it; fetched again")
        sizes[name] = size
    print(f"Fetching {len(sizes)} files, {sum(sizes.values()) / 1e6:,.1f} MB")
    for i, (name, size) in enumerate(sizes.items(), start=1):
        path = directory / name
        label = f"{i}/{len(sizes)} {path.name}"
        fetch(session, urls[name], path, label, SHA256.get(name))
        print(f"{label}: {size / 1e6:,.1f} MB", flush=True)


def main(argv):
    values = flags.FLAGS
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    if not (values.model or values.palette or values.dataset):
        raise app.UsageError("Give --model, --palette or --dataset.")
    if not values.model and (values.bert or values["step"].present):
        raise app.UsageError("--bert and --step need --model.")
    names = []
    if values.model:
        names += checkpoint_names(values.model, values.step, values.bert)
    if values.palette:
        names.append(PALETTE)
    for dataset in values.dataset:
        names += dataset_names(dataset)
    directory = pathlib.Path(values.directory)
    # A preempted machine sends SIGTERM: stop as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        download(names, directory, values.base_url)
    except (Failure, requests.RequestException) as error:
        sys.exit(f"download_openai.py: {error}")
    except OSError as error:
        sys.exit(
            f"download_openai.py: cannot write in {directory}: "
            f"{error.strerror}. What came is kept; the same command continues."
        )
    except KeyboardInterrupt:
        print("\nStopped; the same command continues.", file=sys.stderr)
        sys.exit(130)
    folders = [(directory / name).parent for name in names]
    for folder in dict.fromkeys(folders):
        print(f"{folder}: {folders.count(folder)} files")
    if values.model:
        print(f'Next: igpt_keras.load_openai_checkpoint("{folders[0]}")')


if __name__ == "__main__":
    define_flags()
    app.run(main)

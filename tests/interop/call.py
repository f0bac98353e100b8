"""Calls gRPC methods with `grpcio`, without generated code.

Standard input: one JSON object per line, `{ target, method, streaming, request, metadata }`: `request` and every reply is a
message of text fields, an object from field number to text; `metadata` a list of pairs. Standard output: a line for each,
`{ code, details, initial, trailing, replies }`, with the names of codes and the metadata as lists of pairs.
"""

import json
import sys

import grpc

TIMEOUT = 10
"""Seconds; a call may wait two of them for a key."""

OPTIONS = [
    # Loopback, whatever proxy the environment names; and what a call says is what its first attempt said.
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
]

channels = {}


def call(target, method, streaming, request, metadata):
    channel = channels.setdefault(target, grpc.insecure_channel(target, OPTIONS))
    make = channel.unary_stream if streaming else channel.unary_unary
    stub = make(method, request_serializer=encode, response_deserializer=decode)
    replies = []
    try:
        if streaming:
            ended = stub(request, metadata=metadata, timeout=TIMEOUT)
            replies.extend(ended)
        else:
            reply, ended = stub.with_call(request, metadata=metadata, timeout=TIMEOUT)
            replies.append(reply)
    except grpc.RpcError as error:
        ended = error
    return {
        "code": ended.code().name,
        "details": ended.details(),
        "initial": pairs(ended.initial_metadata()),
        "trailing": pairs(ended.trailing_metadata()),
        "replies": replies,
    }


def pairs(metadata):
    return [[name, value] for name, value in metadata or ()]


def encode(message):
    """Text fields only (wire type 2)."""
    encoded = bytearray()
    for number, text in message.items():
        octets = text.encode()
        encoded += varint(int(number) << 3 | 2) + varint(len(octets)) + octets
    return bytes(encoded)


def decode(octets):
    message, at = {}, 0
    while at < len(octets):
        tag, at = read_varint(octets, at)
        if tag & 7 != 2:
            raise ValueError(f"wire type {tag & 7}")
        length, at = read_varint(octets, at)
        message[str(tag >> 3)] = octets[at:at + length].decode()
        at += length
    return message


def varint(number):
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def read_varint(octets, at):
    number = shift = 0
    while octets[at] & 0x80:
        number |= (octets[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return number | octets[at] << shift, at + 1


for line in sys.stdin:
    print(json.dumps(call(**json.loads(line))), flush=True)

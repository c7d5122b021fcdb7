"""A WebSocket client that has nothing to do with Sluice's own: prints each text message it gets as a
line, sends each line it is given. Lines that begin with `!` make it misbehave:

    !huge N     a text message of N bytes
    !binary     a binary message
    !raw HEX    these bytes on the wire, past the library

When the connection ends it prints {"closed": CODE} or, if it never began, {"refused": HTTP STATUS}.
"""

import asyncio
import json
import os
import sys

import websockets


def say(value):
    print(value if isinstance(value, str) else json.dumps(value), flush=True)


async def listen(connection):
    try:
        async for message in connection:
            say(message)
    except websockets.ConnectionClosed:
        pass
    say({"closed": connection.close_code, "reason": connection.close_reason})


async def obey(connection):
    loop = asyncio.get_running_loop()
    while True:
        line = (await loop.run_in_executor(None, sys.stdin.readline)).rstrip("\n")
        if not line:
            return
        word, _, rest = line.partition(" ")
        try:
            if word == "!huge":
                await connection.send("x" * int(rest))
            elif word == "!binary":
                await connection.send(b"\x00\x01\x02")
            elif word == "!raw":
                connection.transport.write(bytes.fromhex(rest))
            else:
                await connection.send(line)
        except (websockets.ConnectionClosed, OSError):
            # The server may hang up in the middle of a message it doesn't want.
            pass


async def main():
    headers = {"Authorization": "Bearer " + os.environ["SLUICE_TOKEN"]}
    try:
        connection = await websockets.connect(sys.argv[1], extra_headers=headers, max_size=None)
    except websockets.InvalidStatusCode as refusal:
        say({"refused": refusal.status_code})
        return
    listening = asyncio.create_task(listen(connection))
    asyncio.create_task(obey(connection))
    await listening
    # The thread that reads standard input can't be interrupted.
    os._exit(0)


asyncio.run(main())

"""Follows events at the broker: python follow.py AMQP_URL QUEUE, as `warren integrators add` gave them."""

import asyncio
import json
import sys

import aio_pika


async def main(url: str, queue: str) -> None:
    async with await aio_pika.connect_robust(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=100)
        async with (await channel.get_queue(queue, ensure=False)).iterator() as deliveries:
            async for delivery in deliveries:
                event = json.loads(delivery.body)
                print(event["trainingid"], event["sequence"], event["type"], flush=True)
                await delivery.ack()


asyncio.run(main(*sys.argv[1:]))

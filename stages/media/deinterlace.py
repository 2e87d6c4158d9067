"""Interlaced sources to whole pictures, before anything is cut out of them or scaled."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING

from stages.media.video import Frame

if TYPE_CHECKING:
    from av.filter import Graph
    from av.video.frame import VideoFrame

_CLOCK = Fraction(1, 1_000_000)


def deinterlaced(frames: Iterator[Frame[VideoFrame]], notes: list[str]) -> Iterator[Frame[VideoFrame]]:
    """Yield `frames`, times kept; when the decoder marks the first one as two fields, all pass bwdif, one picture for
    each (the fields' own rate is not restored), and `notes` says so. Pictures that are not marked stay as they are.
    """
    first = next(frames, None)
    if first is None:
        return
    frames = chain([first], frames)
    if not first.image.interlaced_frame:
        yield from frames
        return
    notes.append("the source is interlaced: its pictures were deinterlaced")
    graph: Graph | None = None
    shape: tuple[int, int, str] | None = None
    index = 0
    for frame in frames:
        image = frame.image
        if shape != (image.width, image.height, image.format.name):
            if graph is not None:
                yield from _drained(graph, index, last=True)
            shape = (image.width, image.height, image.format.name)
            graph = _graph(image)
        assert graph is not None
        image.pts, image.time_base = round(frame.t_s / _CLOCK), _CLOCK
        graph.push(image)
        for out in _drained(graph, index):
            yield out
            index += 1
    if graph is not None:
        yield from _drained(graph, index, last=True)


def _graph(image: VideoFrame) -> Graph:
    from av.filter import Graph

    graph = Graph()
    source = graph.add(
        "buffer",
        video_size=f"{image.width}x{image.height}",
        pix_fmt=image.format.name,
        time_base=str(_CLOCK),
        pixel_aspect="1/1",
        colorspace=str(int(image.colorspace)),
        range=str(int(image.color_range)),
    )
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _drained(graph: Graph, index: int, *, last: bool = False) -> Iterator[Frame[VideoFrame]]:
    import av
    from av.video.frame import VideoFrame

    if last:
        graph.push(None)
    while True:
        try:
            out = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(out, VideoFrame)
        assert out.pts is not None
        assert out.time_base is not None
        yield Frame(float(out.pts * out.time_base), index, out)
        index += 1

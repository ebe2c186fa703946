"""What an image server keeps on disk; knows no HTTP.

    index.sqlite3        repositories, tags, manifests, and where everything is
    blobs/ab/<hex>       blobs that came whole, by digest
    packs/ab/<hex>       chunks one after another, as they came
    incoming/<hex>       uploads and packs that are not finished

The index decides what exists. A file is put in its place, and taken away, only by the one thread
that writes to the index, so that an upload and the garbage collection can't miss each other.
"""

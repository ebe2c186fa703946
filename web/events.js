/* One event stream of the portal for all tabs of a browser.

   A browser opens six connections to one host, and an event stream holds one for as long as it is
   open. Of the tabs that show the same stream, the one that holds a lock reads it and passes each
   event on to the others. A tab that is hidden takes no part: it neither reads nor listens, and gets
   everything again when it is shown. Without Web Locks or BroadcastChannel each tab that is shown
   reads a stream of its own.

   followEvents({ url, key, names, show, snapshot, connected }):
     url        where the stream is
     key        what the tabs have in common, such as the session's form token
     names      the events of the stream; the first one is sent at its beginning and says everything
     show       called with an event's name and its data, a text
     snapshot   returns the data of the first event as this tab knows it, for a tab that has just
                been shown
     connected  called with true or false when the stream opens or breaks */

"use strict";

window.followEvents = ({ url, key, names, show, snapshot, connected }) => {
  const HIDDEN_MS = 20000;
  const AGAIN_MS = 2000;
  const [whole] = names;
  const shared = "locks" in navigator && "BroadcastChannel" in window;
  const topic = `dit4c ${url} ${key}`;
  const channel = shared ? new BroadcastChannel(topic) : null;
  let taking = null; // an AbortController while this tab takes part
  let complete = false; // this tab reads the stream and has had its first event
  let hiddenTimer = null;

  function receive(message) {
    if ("name" in message) show(message.name, message.data);
    else connected(message.connected);
  }

  function tell(message) {
    if (channel) channel.postMessage(message);
    receive(message);
  }

  // Read the stream until the tab is hidden; the promise ends then.
  function read(signal) {
    return new Promise((done) => {
      let source = null;
      const open = () => {
        source = new EventSource(url);
        const mine = source;
        source.addEventListener("open", () => tell({ connected: true }));
        for (const name of names) {
          source.addEventListener(name, (event) => {
            tell({ name, data: event.data });
            if (name === whole) complete = true;
          });
        }
        source.addEventListener("error", () => {
          complete = false;
          tell({ connected: false });
          // The browser comes back by itself unless the portal answered with an error.
          if (mine.readyState === EventSource.CLOSED) setTimeout(() => again(mine), AGAIN_MS);
        });
      };
      const again = async (ended) => {
        try {
          const answer = await fetch("/", { method: "HEAD", cache: "no-store" });
          if (answer.status === 401) {
            location.reload();
            return;
          }
        } catch {
          // Not reachable yet: the next try of the stream says so.
        }
        if (source === ended && !signal.aborted) open();
      };
      signal.addEventListener("abort", () => {
        complete = false;
        source.close();
        done();
      });
      open();
    });
  }

  function start() {
    if (taking) return;
    taking = new AbortController();
    const { signal } = taking;
    if (!shared) {
      read(signal);
      return;
    }
    channel.postMessage({ ask: true });
    navigator.locks
      .request(topic, { signal }, () => (signal.aborted ? null : read(signal)))
      .catch((error) => {
        if (error.name !== "AbortError") throw error;
      });
  }

  function stop() {
    if (taking) taking.abort();
    taking = null;
  }

  if (channel) {
    channel.addEventListener("message", ({ data: message }) => {
      if (!taking) return;
      if (!("ask" in message)) receive(message);
      else if (complete) channel.postMessage({ name: whole, data: snapshot() });
    });
  }
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiddenTimer);
    if (document.hidden) hiddenTimer = setTimeout(stop, HIDDEN_MS);
    else start();
  });
  // A page that the browser keeps for "back" may hold no lock.
  addEventListener("pagehide", stop);
  addEventListener("pageshow", (event) => {
    if (event.persisted && !document.hidden) start();
  });
  if (!document.hidden) start();
};

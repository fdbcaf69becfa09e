import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.common.exception.CompactedException;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.watch.WatchEvent;
import io.etcd.jetcd.watch.WatchResponse;

/** Watches, which go on by themselves when the server is back. */
final class Watching {
  static void watch(Client client) throws Exception {
    KV kv = client.getKVClient();
    Watch watches = client.getWatchClient();
    long first = Suite.got(kv.put(Suite.bytes("watch/a"), Suite.bytes("1"))).getHeader().getRevision();
    Suite.got(kv.put(Suite.bytes("watch/a"), Suite.bytes("2")));
    BlockingQueue<WatchEvent> every = new LinkedBlockingQueue<>();
    BlockingQueue<WatchEvent> deletes = new LinkedBlockingQueue<>();
    BlockingQueue<WatchResponse> notices = new LinkedBlockingQueue<>();
    WatchOption.Builder prefix = WatchOption.builder().isPrefix(true);
    Watch.Watcher watcher = watches.watch(Suite.bytes("watch/"), prefix.withPrevKV(true).withRevision(first).build(),
        response -> every.addAll(response.getEvents()));
    Watch.Watcher filtered = watches.watch(Suite.bytes("watch/"),
        WatchOption.builder().isPrefix(true).withNoPut(true).withRevision(first).build(),
        response -> deletes.addAll(response.getEvents()));
    long deleted = Suite.got(kv.delete(Suite.bytes("watch/a"))).getHeader().getRevision();
    List<String> said = new ArrayList<>();
    for (int i = 0; i < 3; i++) {
      WatchEvent event = Suite.next(every);
      said.add(event.getEventType() + " " + event.getKeyValue().getValue() + " after " + event.getPrevKV().getValue());
    }
    Suite.equal(said, List.of("PUT 1 after ", "PUT 2 after 1", "DELETE  after 2"));
    Suite.equal(Suite.next(deletes).getKeyValue().getModRevision(), deleted);
    filtered.close();

    Watch.Watcher quiet = watches.watch(Suite.bytes("quiet"), WatchOption.builder().withCreateNotify(true).build(),
        notices::add);
    Suite.check(Suite.next(notices).isCreatedNotify(), "not told that it was created");
    quiet.requestProgress();
    WatchResponse progress = Suite.next(notices);
    Suite.check(progress.isProgressNotify() && progress.getHeader().getRevision() == deleted, progress);
    quiet.close();

    // Nothing is lost or seen twice.
    int expected = 0;
    for (String order : new String[] {"restart", "kill"}) {
      Suite.server(order);
      for (int i = 0; i < 5; i++) {
        String value = String.valueOf(expected + i);
        Suite.served(() -> kv.put(Suite.bytes("watch/a"), Suite.bytes(value)));
      }
      for (int i = 0; i < 5; i++, expected++) {
        Suite.equal(Suite.next(every).getKeyValue().getValue(), Suite.bytes(String.valueOf(expected)));
      }
    }
    watcher.close();

    long last = Suite.got(kv.put(Suite.bytes("watch/a"), Suite.bytes("last"))).getHeader().getRevision();
    Suite.got(kv.compact(last));
    BlockingQueue<Throwable> errors = new LinkedBlockingQueue<>();
    Watch.Watcher old = watches.watch(Suite.bytes("watch/a"), WatchOption.builder().withRevision(first).build(),
        response -> {}, errors::add);
    Throwable error = Suite.next(errors);
    Suite.check(error instanceof CompactedException compacted && compacted.getCompactedRevision() == last, error);
    old.close();
  }

  private Watching() {}
}

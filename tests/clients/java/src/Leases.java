import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.Lease;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.lease.LeaseTimeToLiveResponse;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.support.CloseableClient;
import io.etcd.jetcd.watch.WatchEvent;
import io.grpc.stub.StreamObserver;

/** Leases that end, are kept alive and revoked. */
final class Leases {
  static void lease(Client client) throws Exception {
    KV kv = client.getKVClient();
    Lease leases = client.getLeaseClient();
    long brief = Suite.got(leases.grant(5)).getID();
    long kept = Suite.got(leases.grant(6)).getID();
    BlockingQueue<WatchEvent> gone = new LinkedBlockingQueue<>();
    Suite.got(kv.put(Suite.bytes("lease/brief"), Suite.bytes("1"), with(brief)));
    Suite.got(kv.put(Suite.bytes("lease/kept"), Suite.bytes("1"), with(kept)));
    Watch.Watcher watcher = client.getWatchClient().watch(Suite.bytes("lease/brief"),
        response -> gone.addAll(response.getEvents()));
    BlockingQueue<LeaseKeepAliveResponse> beats = new LinkedBlockingQueue<>();
    CloseableClient keeper = leases.keepAlive(kept, new StreamObserver<>() {
      @Override
      public void onNext(LeaseKeepAliveResponse beat) {
        beats.add(beat);
      }

      @Override
      public void onError(Throwable error) {}

      @Override
      public void onCompleted() {}
    });
    Suite.equal(Suite.next(beats).getTTL(), 6L);
    Suite.equal(Suite.next(gone).getEventType(), WatchEvent.EventType.DELETE);
    watcher.close();
    Suite.refused(leases.keepAliveOnce(brief), "lease not found");
    Suite.equal(Suite.got(leases.timeToLive(brief, LeaseOption.DEFAULT)).getTTL(), -1L);

    Suite.server("kill");
    Suite.served(() -> kv.get(Suite.bytes("lease/kept")));
    beats.clear();
    Suite.equal(Suite.next(beats).getTTL(), 6L);
    // It would have ended by now.
    Thread.sleep(7000);
    LeaseTimeToLiveResponse held =
        Suite.got(leases.timeToLive(kept, LeaseOption.builder().withAttachedKeys().build()));
    Suite.equal(held.getGrantedTTL(), 6L);
    Suite.equal(held.getKeys(), List.of(Suite.bytes("lease/kept")));
    keeper.close();
    Suite.got(leases.revoke(kept));
    Suite.equal(Suite.got(kv.get(Suite.bytes("lease/kept"))).getCount(), 0L);
    Suite.refused(leases.revoke(kept), "etcdserver: requested lease not found");
    Suite.refused(kv.put(Suite.bytes("lease/kept"), Suite.bytes("1"), with(kept)),
        "etcdserver: requested lease not found");
  }

  static PutOption with(long lease) {
    return PutOption.builder().withLeaseId(lease).build();
  }

  private Leases() {}
}

import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.Election;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.Lease;
import io.etcd.jetcd.Lock;
import io.etcd.jetcd.election.CampaignResponse;
import io.etcd.jetcd.election.LeaderKey;
import io.etcd.jetcd.election.LeaderResponse;
import io.etcd.jetcd.lock.LockResponse;

/** The server's own locks and elections. */
final class Locks {
  static void lock(Client client) throws Exception {
    locks(client);
    elections(client);
  }

  private static void locks(Client client) throws Exception {
    Lock locks = client.getLockClient();
    Lease leases = client.getLeaseClient();
    ByteSequence name = Suite.bytes("lock");
    long mine = Suite.got(leases.grant(60)).getID();
    long theirs = Suite.got(leases.grant(60)).getID();
    ByteSequence held = Suite.got(locks.lock(name, mine)).getKey();
    Suite.equal(held, Suite.bytes("lock/" + Long.toHexString(mine)));
    Suite.equal(Suite.got(locks.lock(name, mine)).getKey(), held);
    try (Client other = Suite.connect().build()) {
      CompletableFuture<LockResponse> waiting = other.getLockClient().lock(name, theirs);
      Suite.check(Suite.waits(waiting), "two have the lock");
      Suite.got(locks.unlock(held));
      Suite.got(locks.unlock(Suite.got(waiting).getKey()));

      // One that ends gives it back; who has it keeps it while the server ends.
      long brief = Suite.got(leases.grant(2)).getID();
      Suite.got(locks.lock(name, brief));
      ByteSequence heir = Suite.got(other.getLockClient().lock(name, theirs)).getKey();
      Suite.server("kill");
      KV kv = client.getKVClient();
      Suite.equal(Suite.served(() -> kv.get(heir)).getCount(), 1L);
      Suite.got(locks.unlock(heir));
    }
  }

  private static void elections(Client client) throws Exception {
    Election elections = client.getElectionClient();
    ByteSequence name = Suite.bytes("election");
    Suite.refused(elections.leader(name), "NoLeaderException");
    BlockingQueue<String> observed = new LinkedBlockingQueue<>();
    elections.observe(name, new Election.Listener() {
      @Override
      public void onNext(LeaderResponse response) {
        observed.add(response.getKv().getValue().toString());
      }

      @Override
      public void onError(Throwable error) {
        observed.add(error.toString());
      }

      @Override
      public void onCompleted() {}
    });
    long first = Suite.got(client.getLeaseClient().grant(60)).getID();
    long second = Suite.got(client.getLeaseClient().grant(60)).getID();
    LeaderKey one = Suite.got(elections.campaign(name, first, Suite.bytes("one"))).getLeader();
    Suite.equal(Suite.next(observed), "one");
    CompletableFuture<CampaignResponse> campaign = elections.campaign(name, second, Suite.bytes("two"));
    Suite.check(Suite.waits(campaign), "two lead");
    Suite.got(elections.proclaim(one, Suite.bytes("one again")));
    Suite.equal(Suite.next(observed), "one again");
    Suite.got(elections.resign(one));
    LeaderKey two = Suite.got(campaign).getLeader();
    Suite.equal(Suite.next(observed), "two");
    Suite.equal(Suite.got(elections.leader(name)).getKv().getValue(), Suite.bytes("two"));
    Suite.refused(elections.proclaim(one, Suite.bytes("late")), "NotLeaderException");
    Suite.got(elections.resign(two));
  }

  private Locks() {}
}

import static java.util.stream.Collectors.joining;

import java.io.ByteArrayOutputStream;

import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.kv.GetResponse;
import io.etcd.jetcd.kv.PutResponse;
import io.etcd.jetcd.kv.TxnResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.CompactOption;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.PutOption;

/** Keys, values, transactions, and what the server says of itself. */
final class Keys {
  static void kv(Client client) throws Exception {
    KV kv = client.getKVClient();
    Suite.got(kv.put(Suite.bytes("kv/a"), Suite.bytes("1")));
    PutResponse second = Suite.got(
        kv.put(Suite.bytes("kv/a"), Suite.bytes("2"), PutOption.builder().withPrevKV().build()));
    Suite.equal(second.getPrevKv().getValue(), Suite.bytes("1"));
    for (String name : new String[] {"b", "c", "d"}) {
      Suite.got(kv.put(Suite.bytes("kv/" + name), Suite.bytes(name)));
    }
    GetResponse page = Suite.got(kv.get(Suite.bytes("kv/"), GetOption.builder().isPrefix(true).withLimit(2)
        .withSortField(GetOption.SortTarget.KEY).withSortOrder(GetOption.SortOrder.DESCEND).build()));
    Suite.equal(keys(page), "kv/d kv/c");
    Suite.equal(page.getCount(), 4L);
    Suite.equal(page.isMore(), true);
    long revision = second.getHeader().getRevision();
    GetOption before = GetOption.builder().withRevision(revision - 1).build();
    GetResponse old = Suite.got(kv.get(Suite.bytes("kv/a"), before));
    Suite.equal(old.getKvs().get(0).getValue(), Suite.bytes("1"));
    Suite.equal(Suite.got(kv.delete(Suite.bytes("kv/b"),
        DeleteOption.builder().withRange(Suite.bytes("kv/d")).withPrevKV(true).build())).getPrevKvs().size(), 2);
    Suite.refused(kv.put(Suite.bytes(""), Suite.bytes("x")), "etcdserver: key is not provided");
    Suite.got(kv.compact(revision, CompactOption.builder().withCompactPhysical(true).build()));
    Suite.refused(kv.get(Suite.bytes("kv/a"), before), "etcdserver: mvcc: required revision has been compacted");

    try (Client inside = Suite.connect().namespace(Suite.bytes("space/")).build()) {
      Suite.got(inside.getKVClient().put(Suite.bytes("a"), Suite.bytes("inside")));
    }
    Suite.equal(keys(Suite.got(kv.get(Suite.bytes("space/a")))), "space/a");

    long leader = Suite.got(client.getMaintenanceClient().statusMember(Suite.endpoint())).getLeader();
    Suite.equal(leader, second.getHeader().getMemberId());
    Suite.equal(Suite.got(client.getClusterClient().listMember()).getMembers().size(), 1);
    Suite.check(Suite.got(client.getMaintenanceClient().hashKV(Suite.endpoint(), 0)).getHash() != 0, "no hash");
    Suite.got(client.getMaintenanceClient().defragmentMember(Suite.endpoint()));
    ByteArrayOutputStream backup = new ByteArrayOutputStream();
    Suite.check(Suite.got(client.getMaintenanceClient().snapshot(backup)) > 4096, "a small backup");
  }

  static void txn(Client client) throws Exception {
    KV kv = client.getKVClient();
    Cmp absent = new Cmp(Suite.bytes("txn/a"), Cmp.Op.EQUAL, CmpTarget.createRevision(0));
    for (boolean first : new boolean[] {true, false}) {
      TxnResponse created = Suite.got(kv.txn().If(absent)
          .Then(Op.put(Suite.bytes("txn/a"), Suite.bytes("1"), PutOption.DEFAULT))
          .Else(Op.get(Suite.bytes("txn/a"), GetOption.DEFAULT)).commit());
      Suite.equal(created.isSucceeded(), first);
      if (!first) {
        Suite.equal(created.getGetResponses().get(0).getKvs().get(0).getValue(), Suite.bytes("1"));
      }
    }
    TxnResponse nested = Suite.got(kv.txn()
        .If(new Cmp(Suite.bytes("txn/a"), Cmp.Op.EQUAL, CmpTarget.value(Suite.bytes("1"))))
        .Then(Op.txn(new Cmp[] {new Cmp(Suite.bytes("txn/a"), Cmp.Op.GREATER, CmpTarget.version(0))},
            new Op[] {Op.delete(Suite.bytes("txn/a"), DeleteOption.DEFAULT)}, new Op[] {}),
            Op.get(Suite.bytes("txn/a"), GetOption.DEFAULT))
        .commit());
    Suite.equal(nested.getTxnResponses().get(0).getDeleteResponses().get(0).getDeleted(), 1L);
    Suite.equal(nested.getGetResponses().get(0).getCount(), 0L);
  }

  static String keys(GetResponse response) {
    return response.getKvs().stream().map(kv -> kv.getKey().toString()).collect(joining(" "));
  }

  private Keys() {}
}

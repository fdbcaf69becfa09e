import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.ClientBuilder;

/** The Java client `jetcd` against one member. See ../../../clients.rs for how it is called and what it says. */
final class Suite {
  /** Seconds that anything may take that is meant to happen. */
  static final long PATIENCE = 30;

  private static final BufferedReader ANSWERS =
      new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
  private static String address;

  interface Part {
    void run(Client client) throws Exception;
  }

  private static final Map<String, Part> PARTS = Map.of(
      "kv", Keys::kv,
      "txn", Keys::txn,
      "watch", Watching::watch,
      "lease", Leases::lease,
      "lock", Locks::lock,
      "auth", Users::auth);

  public static void main(String[] arguments) throws Exception {
    address = arguments[0];
    for (int i = 1; i < arguments.length; i++) {
      long since = System.nanoTime();
      try (Client client = connect().build()) {
        PARTS.get(arguments[i]).run(client);
      }
      System.out.printf("%s ok, %.1f s%n", arguments[i], (System.nanoTime() - since) / 1e9);
    }
    System.exit(0);
  }

  static ClientBuilder connect() {
    return Client.builder().endpoints("http://" + address);
  }

  static String endpoint() {
    return "http://" + address;
  }

  /** Has the server end and start again on the same address: `restart` in order, `kill` at once. */
  static void server(String order) throws IOException {
    System.out.println(order);
    System.out.flush();
    check(ANSWERS.readLine() != null, "nobody answers");
  }

  static ByteSequence bytes(String text) {
    return ByteSequence.from(text, StandardCharsets.UTF_8);
  }

  static <T> T got(CompletableFuture<T> future) throws Exception {
    return future.get(PATIENCE, TimeUnit.SECONDS);
  }

  /** The error that a call must end with. */
  static Throwable refused(CompletableFuture<?> future, String text) throws Exception {
    try {
      throw new AssertionError("expected \"" + text + "\", got " + got(future));
    } catch (ExecutionException error) {
      Throwable cause = error.getCause();
      check(cause.toString().contains(text), "expected \"" + text + "\", got " + cause);
      return cause;
    }
  }

  /** Whether it is still not done after a while. */
  static boolean waits(CompletableFuture<?> future) throws Exception {
    try {
      future.get(200, TimeUnit.MILLISECONDS);
      return false;
    } catch (TimeoutException expected) {
      return true;
    }
  }

  static <T> T next(BlockingQueue<T> queue) throws InterruptedException {
    T value = queue.poll(PATIENCE, TimeUnit.SECONDS);
    check(value != null, "nothing came within " + PATIENCE + " s");
    return value;
  }

  /** Calls until the server, which ended, answers again. */
  static <T> T served(Callable<CompletableFuture<T>> call) throws Exception {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE);
    while (true) {
      try {
        return got(call.call());
      } catch (ExecutionException error) {
        if (System.nanoTime() > end) {
          throw error;
        }
        Thread.sleep(50);
      }
    }
  }

  static void check(boolean holds, Object otherwise) {
    if (!holds) {
      throw new AssertionError(otherwise);
    }
  }

  static void equal(Object got, Object want) {
    check(Objects.equals(got, want), "expected " + want + ", got " + got);
  }

  private Suite() {}
}

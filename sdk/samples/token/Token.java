// Java 11 or later, without a library: java Token.java APP USER, with the secret in PARLANCE_APP_SECRET.
import static java.nio.charset.StandardCharsets.UTF_8;

import java.security.GeneralSecurityException;
import java.time.Duration;
import java.time.Instant;
import java.util.Base64;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public final class Token {
    private static final Base64.Encoder BASE64URL = Base64.getUrlEncoder().withoutPadding();

    /** A token that lets the user log in for as long as {@code life}. */
    public static String issue(String secret, String app, String user, Duration life)
            throws GeneralSecurityException {
        long now = Instant.now().getEpochSecond();
        String claims =
                String.format(
                        "{\"app\":%s,\"sub\":%s,\"iat\":%d,\"exp\":%d}",
                        quote(app), quote(user), now, now + life.toSeconds());
        String signed = encode("{\"alg\":\"HS256\",\"typ\":\"JWT\"}") + "." + encode(claims);
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(secret.getBytes(UTF_8), "HmacSHA256"));
        return signed + "." + BASE64URL.encodeToString(mac.doFinal(signed.getBytes(UTF_8)));
    }

    private static String encode(String text) {
        return BASE64URL.encodeToString(text.getBytes(UTF_8));
    }

    /** A JSON string. Ids of users have no control characters. */
    private static String quote(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }

    public static void main(String[] args) throws GeneralSecurityException {
        System.out.println(issue(System.getenv("PARLANCE_APP_SECRET"), args[0], args[1], Duration.ofHours(1)));
    }
}

// Compiles against the platform's own types: what a mini-program passes is what is asked for. Never run.
import { KeyValueStore, ParlanceClient, weChatStorage, weChatTransport } from "../../src/index.js";

const client = new ParlanceClient({
  gateways: ["wss://chat.example.com/ws"],
  getToken: () => getApp<{ fetchToken(): Promise<string> }>().fetchToken(),
  transport: weChatTransport(wx),
  store: new KeyValueStore(weChatStorage(wx)),
});
wx.onNetworkStatusChange(({ isConnected }) => isConnected && client.reconnectNow());
wx.onAppShow(() => client.reconnectNow());
